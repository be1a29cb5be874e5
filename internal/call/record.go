// Package call holds Record: one RPC as it was seen on a socket. It is the
// noun that everything behind the decoder shares; sinks know it and not each
// other. It depends on nothing of ours, and a Record is never changed once it
// was handed to a sink.
package call

import (
	"encoding/json"
	"math"
	"time"
)

// State says how much of a call was seen.
type State string

const (
	// Done: the call ended, by its status or by a reset of its stream.
	Done State = "done"
	// Running: the call has not ended yet.
	Running State = "running"
	// Lost: the connection (or our sight of it) ended before the call did.
	// A lost call has no code: none was on the wire, and none is invented.
	Lost State = "lost"
)

// Record is one call. Its JSON form is the contract of `-o json` and of
// captures: keys are absent where the value is unknown.
type Record struct {
	Start      time.Time `json:"start"`
	DurationMS float64   `json:"duration_ms"`
	State      State     `json:"state"`

	Service string `json:"service"` // "runtime.v1.RuntimeService"
	Method  string `json:"method"`  // "StartContainer"
	Code    string `json:"code,omitempty"`
	// Message is the status message, or for a lost call how it was lost.
	Message string `json:"message,omitempty"`
	// Details are the status' error details: an array of google.rpc's messages,
	// each with its name as "@type".
	Details json.RawMessage `json:"details,omitempty"`

	Socket string `json:"socket"` // the path that the client dialled
	Caller Caller `json:"caller,omitzero"`
	Server Server `json:"server,omitzero"`

	Pod       Pod       `json:"pod,omitzero"`
	Container Container `json:"container,omitzero"`
	SandboxID string    `json:"sandbox_id,omitempty"`
	Image     string    `json:"image,omitempty"`
	Volume    Volume    `json:"volume,omitzero"`
	// Subject is what the call is about that is none of these: a device, a
	// claim, an etcd key, a blob's digest.
	Subject string `json:"subject,omitempty"`

	// Request and Response are what may be shown of the payloads as JSON: an
	// object, or for a stream an array of its first messages.
	Request  json.RawMessage `json:"request,omitempty"`
	Response json.RawMessage `json:"response,omitempty"`

	// Sums of message bytes as sent, without the five-byte gRPC prefixes.
	RequestBytes     int64 `json:"request_bytes"`
	ResponseBytes    int64 `json:"response_bytes"`
	RequestMessages  int64 `json:"request_messages"`
	ResponseMessages int64 `json:"response_messages"`
	// ExitCode is that of an ExecSync's command; nil where there is none. It is
	// in Response too; here it is for the span.
	ExitCode *int32 `json:"-"`
	// Truncated: Request or Response show less than was sent, for size.
	Truncated bool `json:"truncated,omitempty"`

	TraceID      string `json:"trace_id,omitempty"`
	SpanID       string `json:"span_id,omitempty"`
	ParentSpanID string `json:"parent_span_id,omitempty"`
	// The caller's sampling decision and tracestate, for the span alone.
	ParentSampled bool   `json:"-"`
	TraceState    string `json:"-"`
	NativeParent  bool   `json:"native_parent,omitempty"`
	// PodTraceID is the trace of the pod's start, and PodSpanID its root, for the
	// span's link alone.
	PodTraceID string `json:"pod_trace_id,omitempty"`
	PodSpanID  string `json:"-"`
	// PodParent: ParentSpanID is the root of the pod's start or stop, and not the
	// span of a caller.
	PodParent bool `json:"-"`

	// Known: its method is one of an API that is known, so that its name is one of
	// a bounded number.
	Known bool `json:"-"`
	// Sampled: its span is exported.
	Sampled bool `json:"-"`

	Connection uint64 `json:"connection"`
	Stream     uint32 `json:"stream"`
}

// Caller is the process that dialled.
type Caller struct {
	PID int    `json:"pid,omitempty"`
	Exe string `json:"exe,omitempty"` // absolute path
}

// Server is who answers.
type Server struct {
	Name string `json:"name,omitempty"` // "containerd", "nfs.csi.k8s.io"
}

// Pod is a pod in Kubernetes' terms.
type Pod struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

// Container is a container of a pod.
type Container struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

// Volume is what a CSI call is about.
type Volume struct {
	ID     string `json:"id,omitempty"`
	PV     string `json:"pv,omitempty"`
	PVC    string `json:"pvc,omitempty"`
	Driver string `json:"driver,omitempty"`
	Path   string `json:"path,omitempty"` // target or staging path
}

// Duration is the call's length: from the first byte of its request to the
// last of its response, as the relay read them.
func (r *Record) Duration() time.Duration {
	return time.Duration(math.Round(r.DurationMS * float64(time.Millisecond)))
}

// End is when the call ended.
func (r *Record) End() time.Time { return r.Start.Add(r.Duration()) }

// Failed: the call ended with anything but OK, or was lost.
func (r *Record) Failed() bool { return r.State != Running && r.Code != "OK" }
