package e2e

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"
)

// What the records and spans of TestContainerd must say.

// checkRecord holds what is true of every record of a call that this process
// has made since began and seen the end of.
func checkRecord(t *testing.T, tap *Tap, r Record, began time.Time) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	service := "runtime.v1.RuntimeService"
	if strings.HasPrefix(r.Method, "Image") {
		service = "runtime.v1.ImageService"
	}
	for what, ok := range map[string]bool{
		"state is done":                      r.State == "done",
		"service is " + service:              r.Service == service,
		"a code":                             r.Code != "",
		"the path that was dialled":          r.Socket == tap.Listen,
		"the caller is us":                   r.Caller.PID == os.Getpid() && r.Caller.Exe == exe,
		"a duration":                         r.DurationMS > 0 && r.DurationMS < 120_000,
		"it started while we were at it":     r.Start.After(began.Add(-time.Second)) && r.Start.Before(time.Now()),
		"one request":                        r.RequestMessages == 1,
		"one response if OK":                 r.Code != "OK" || r.ResponseMessages == 1,
		"a trace id":                         regexp.MustCompile("^[0-9a-f]{32}$").MatchString(r.TraceID),
		"a span id":                          regexp.MustCompile("^[0-9a-f]{16}$").MatchString(r.SpanID),
		"no parent, as the caller sent none": !r.NativeParent,
		"a stream of a client":               r.Stream%2 == 1,
	} {
		if !ok {
			t.Errorf("%s: not so: %s: %s", r.Method, what, r)
		}
	}
}

// checkStory holds the records against what the client did, in its order.
func checkStory(t *testing.T, records []Record, p *pod, steps []step) {
	next := map[string]int{}
	for _, s := range steps {
		r, ok := nth(records, s.Method, next[s.Method])
		next[s.Method]++
		if !ok {
			continue // counted elsewhere
		}
		if want := codeNames[s.Code]; r.Code != want {
			t.Errorf("%s: code %q, not %q: %s", s.Method, r.Code, want, r)
		}
		if told := varying.ReplaceAllString(r.Message, "ID"); s.Code != "Canceled" && told != s.Message {
			t.Errorf("%s: message %q, not %q", s.Method, told, s.Message)
		}
		if unary := s.Method != "GetContainerEvents"; unary && (r.RequestBytes != int64(s.sent) || r.ResponseBytes != int64(s.received)) {
			t.Errorf("%s: %d bytes sent and %d received: %s", s.Method, s.sent, s.received, r)
		}
		if probe := strings.Contains(s.Note, "exit 3"); probe && !strings.Contains(string(r.Response), `"exit_code":3`) {
			t.Errorf("ExecSync: a probe that failed is not told as one: %s", r)
		}
		if s.Method == "ExecSync" && r.Code == "OK" && !strings.Contains(s.Note, "exit") && !strings.Contains(string(r.Response), `"stdout":"‹`) {
			t.Errorf("ExecSync: the size of what was printed is not told: %s", r)
		}
		checkSubject(t, s, r, p)
	}
	// What people run in their containers, and what it prints, may hold secrets.
	for _, private := range []string{"echo hi", "trap exit", `"hi\n"`, "aGkK"} {
		if strings.Contains(lines(records), private) {
			t.Errorf("the records show %q", private)
		}
	}
}

// codeNames are the contract's names for those of grpc-go that occur here.
var codeNames = map[string]string{
	"OK": "OK", "NotFound": "NOT_FOUND", "Unknown": "UNKNOWN", "InvalidArgument": "INVALID_ARGUMENT",
	"Unimplemented": "UNIMPLEMENTED", "Canceled": "CANCELLED", "FailedPrecondition": "FAILED_PRECONDITION",
}

func nth(records []Record, method string, n int) (Record, bool) {
	for _, r := range records {
		if r.Method == method {
			if n == 0 {
				return r, true
			}
			n--
		}
	}
	return Record{}, false
}

// checkSubject holds what a record says its call was about.
func checkSubject(t *testing.T, s step, r Record, p *pod) {
	sandbox, container := p.sandbox, p.container
	aboutPod, aboutContainer := false, false
	switch s.Method {
	case "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox":
		aboutPod = true
		if s.Code != "OK" {
			sandbox = "" // none was made
		}
	case "CreateContainer", "StartContainer", "ContainerStatus", "ExecSync", "StopContainer", "RemoveContainer":
		aboutPod, aboutContainer = true, true
		if s.Code != "OK" {
			aboutPod, container = false, unknownID
		}
	case "ImageStatus":
		if r.Image == "" {
			t.Errorf("ImageStatus: no image: %s", r)
		}
	}
	if aboutPod && (r.Pod.Name != p.name || r.Pod.Namespace != p.namespace || r.Pod.UID != p.uid || r.SandboxID != sandbox) {
		t.Errorf("%s: not of pod %s/%s, uid %s, sandbox %q: %s", s.Method, p.namespace, p.name, p.uid, sandbox, r)
	}
	if aboutContainer && r.Container.ID != container {
		t.Errorf("%s: not of container %s: %s", s.Method, container, r)
	}
	if aboutContainer && aboutPod && r.Container.Name != containerName {
		t.Errorf("%s: not of a container named %s: %s", s.Method, containerName, r)
	}
}

// checkSpans holds that each record came as a span too, with the same values.
func checkSpans(t *testing.T, records []Record, c *Collector, tap *Tap) {
	spans := c.Spans()
	for _, r := range records {
		span := spans[r.SpanID]
		if span == nil {
			t.Errorf("no span came of %s", r)
			continue
		}
		checkIDs(t, r, span)
		if want := r.Service + "/" + r.Method; span.GetName() != want || span.GetKind() != trace.Span_SPAN_KIND_CLIENT {
			t.Errorf("span %q of kind %v, not %q of kind client", span.GetName(), span.GetKind(), want)
		}
		got := attributes(span.GetAttributes())
		for key, want := range map[string]string{
			"rpc.system.name": "grpc", "rpc.method": r.Service + "/" + r.Method,
			"rpc.response.status_code": r.Code, "server.address": tap.Listen, "network.transport": "unix",
			"k8s.namespace.name": r.Pod.Namespace, "k8s.pod.name": r.Pod.Name, "k8s.pod.uid": r.Pod.UID,
			"k8s.container.name": r.Container.Name, "container.id": r.Container.ID,
		} {
			if is := got[key].GetStringValue(); is != want {
				t.Errorf("%s: span's %s is %q, not %q", r.Method, key, is, want)
			}
		}
		if strings.Contains(string(r.Response), `"exit_code":3`) && got["grpc_tap.exec.exit_code"].GetIntValue() != 3 {
			t.Errorf("%s: span's grpc_tap.exec.exit_code is %v", r.Method, got["grpc_tap.exec.exit_code"])
		}
		if failed := span.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR; failed != (r.Code != "OK") {
			t.Errorf("%s: code %s, span's status %v", r.Method, r.Code, span.GetStatus())
		}
	}
	if name := c.Resource("service.name"); name != "grpc-tap" {
		t.Errorf("service.name is %q", name)
	}
}

func checkIDs(t *testing.T, r Record, span *trace.Span) {
	ids := [3]string{hex.EncodeToString(span.GetTraceId()), hex.EncodeToString(span.GetSpanId()), hex.EncodeToString(span.GetParentSpanId())}
	if want := [3]string{r.TraceID, r.SpanID, r.ParentSpanID}; ids != want {
		t.Errorf("%s: span's trace, id and parent are %q, the record's %q", r.Method, ids, want)
	}
}
