package span

import (
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

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
func status(r *call.Record) (codes.Code, string) {
	switch {
	case r.State == call.Lost && r.Message == "":
		return codes.Error, "connection lost"
	case r.Failed():
		return codes.Error, valid(r.Message)
	default:
		return codes.Unset, ""
	}
}

// attributes are all that the record knows; what it does not know is absent.
func attributes(r *call.Record) []attribute.KeyValue {
	a := attrs{kvs: make([]attribute.KeyValue, 0, 32)}
	a.kvs = append(a.kvs, semconv.RPCSystemNameGRPC, semconv.NetworkTransportUnix)
	a.text(semconv.RPCMethodKey, name(r))
	a.text(semconv.ServerAddressKey, r.Socket)
	a.text(semconv.RPCResponseStatusCodeKey, r.Code)
	a.text(semconv.ErrorTypeKey, errorType(r))

	a.text(semconv.K8SNamespaceNameKey, r.Pod.Namespace)
	a.text(semconv.K8SPodNameKey, r.Pod.Name)
	a.text(semconv.K8SPodUIDKey, r.Pod.UID)
	a.text(semconv.K8SContainerNameKey, r.Container.Name)
	a.text(semconv.ContainerIDKey, r.Container.ID)
	a.image(r.Image)
	a.text(semconv.ContainerCSIPluginNameKey, r.Volume.Driver)
	a.text(semconv.ContainerCSIVolumeIDKey, r.Volume.ID)
	a.text(semconv.K8SPersistentvolumeNameKey, r.Volume.PV)

	a.text(requestPayloadKey, string(r.Request))
	a.text(responsePayloadKey, string(r.Response))
	a.kvs = append(a.kvs, requestBytesKey.Int64(r.RequestBytes), responseBytesKey.Int64(r.ResponseBytes))
	if r.Caller.PID != 0 {
		a.kvs = append(a.kvs, callerPIDKey.Int(r.Caller.PID))
	}
	a.text(callerExeKey, r.Caller.Exe)
	a.text(stateKey, string(r.State))
	if r.Truncated {
		a.kvs = append(a.kvs, truncatedKey.Bool(true))
	}
	if r.ExitCode != nil {
		a.kvs = append(a.kvs, exitCodeKey.Int64(int64(*r.ExitCode)))
	}
	return a.kvs
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

type attrs struct{ kvs []attribute.KeyValue }

func (a *attrs) text(k attribute.Key, v string) {
	if v != "" {
		a.kvs = append(a.kvs, k.String(valid(v)))
	}
}

// image splits an image reference as semconv wants it: the name without tag
// and digest, the tag, the digest with the name; and "sha256:…" alone, which is
// how the kubelet names an image it has, is an id.
func (a *attrs) image(ref string) {
	if strings.HasPrefix(ref, "sha256:") {
		a.text(semconv.ContainerImageIDKey, ref)
		return
	}
	repo, digest, _ := strings.Cut(valid(ref), "@")
	// A colon before the last slash is a registry's port, not a tag.
	var tag string
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') {
		repo, tag = repo[:i], repo[i+1:]
	}
	a.text(semconv.ContainerImageNameKey, repo)
	if tag != "" {
		a.kvs = append(a.kvs, semconv.ContainerImageTags(tag))
	}
	if digest != "" {
		a.kvs = append(a.kvs, semconv.ContainerImageRepoDigests(repo+"@"+digest))
	}
}

// valid makes s UTF-8. A protobuf string that is not fails to marshal, and one
// such message off the wire would take its whole batch with it.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
