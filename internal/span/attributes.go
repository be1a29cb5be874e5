package span

import (
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// What semconv has no name for. docs/spans.md is the table; change both.
const (
	requestPayloadKey  = attribute.Key("grpc_tap.request.payload")
	responsePayloadKey = attribute.Key("grpc_tap.response.payload")
	requestBytesKey    = attribute.Key("grpc_tap.request.bytes")
	responseBytesKey   = attribute.Key("grpc_tap.response.bytes")
	callerPIDKey       = attribute.Key("grpc_tap.caller.pid")
	callerExeKey       = attribute.Key("grpc_tap.caller.exe")
	stateKey           = attribute.Key("grpc_tap.state")
	truncatedKey       = attribute.Key("grpc_tap.truncated")
	exitCodeKey        = attribute.Key("grpc_tap.exec.exit_code")
	detailsKey         = attribute.Key("grpc_tap.error.details")
	subjectKey         = attribute.Key("grpc_tap.subject")
	sandboxIDKey       = attribute.Key("grpc_tap.sandbox.id")
)

// connectionLost is error.type of a call whose connection ended first. No
// status was on the wire, so it is none of gRPC's codes.
const connectionLost = "connection_lost"

// name is the span's name and rpc.method: "runtime.v1.RuntimeService/Version",
// as otelgrpc makes both of the path.
func name(r *call.Record) string {
	if r.Service == "" {
		return valid(r.Method)
	}
	return valid(r.Service + "/" + r.Method)
}

// status follows otelgrpc's client handler: any code but OK is an error, with
// the message as its description; OK leaves the status unset.
func status(r *call.Record) (tracepb.Status_StatusCode, string) {
	switch {
	case r.State == call.Lost && r.Message == "":
		return tracepb.Status_STATUS_CODE_ERROR, "connection lost"
	case r.Failed():
		return tracepb.Status_STATUS_CODE_ERROR, valid(r.Message)
	default:
		return tracepb.Status_STATUS_CODE_UNSET, ""
	}
}

// addAll adds all that the record knows.
func (a *attributes) addAll(r *call.Record) {
	a.known(semconv.RPCSystemNameGRPC.Key, semconv.RPCSystemNameGRPC.Value.AsString())
	a.known(semconv.NetworkTransportUnix.Key, semconv.NetworkTransportUnix.Value.AsString())
	a.known(semconv.RPCMethodKey, a.span.Name)
	a.known(semconv.ServerAddressKey, r.Socket)
	a.known(semconv.RPCResponseStatusCodeKey, r.Code)
	a.known(semconv.ErrorTypeKey, errorType(r))

	a.pod(r.Pod)
	a.known(semconv.K8SContainerNameKey, r.Container.Name)
	a.known(semconv.ContainerIDKey, r.Container.ID)
	a.known(sandboxIDKey, r.SandboxID)
	a.image(r.Image)
	a.known(semconv.ContainerCSIPluginNameKey, r.Volume.Driver)
	a.known(semconv.ContainerCSIVolumeIDKey, r.Volume.ID)
	a.known(semconv.K8SPersistentvolumeNameKey, r.Volume.PV)

	a.known(requestPayloadKey, string(r.Request))
	a.known(responsePayloadKey, string(r.Response))
	a.int(requestBytesKey, r.RequestBytes)
	a.int(responseBytesKey, r.ResponseBytes)
	if r.Caller.PID != 0 {
		a.int(callerPIDKey, int64(r.Caller.PID))
	}
	a.known(callerExeKey, r.Caller.Exe)
	a.known(stateKey, string(r.State))
	if r.Truncated {
		a.yes(truncatedKey)
	}
	if r.ExitCode != nil {
		a.int(exitCodeKey, int64(*r.ExitCode))
	}
	a.known(detailsKey, string(r.Details))
	a.known(subjectKey, r.Subject)
}

// errorType is semconv's rule for clients: the status code on any failure.
func errorType(r *call.Record) string {
	switch {
	case !r.Failed():
		return ""
	case r.State == call.Lost:
		return connectionLost
	case r.Code == "":
		return semconv.ErrorTypeOther.Value.AsString()
	default:
		return r.Code
	}
}

// image splits an image reference as semconv wants it: the name without tag
// and digest, the tag, the digest with the name; and "sha256:…" alone, which is
// how the kubelet names an image it has, is an id.
func (a *attributes) image(ref string) {
	if strings.HasPrefix(ref, "sha256:") {
		a.known(semconv.ContainerImageIDKey, ref)
		return
	}
	repo, digest, _ := strings.Cut(valid(ref), "@")
	// A colon before the last slash is a registry's port, not a tag.
	var tag string
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo, tag = repo[:i], repo[i+1:]
	}
	a.known(semconv.ContainerImageNameKey, repo)
	if tag != "" {
		a.one(semconv.ContainerImageTagsKey, tag)
	}
	if digest != "" {
		a.one(semconv.ContainerImageRepoDigestsKey, repo+"@"+digest)
	}
}

// valid makes s UTF-8. A protobuf string that is not fails to marshal, and one
// such message off the wire would take its whole batch with it.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
