package tap

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// last is the record of the last call of a method.
func (s *spine) last(method string) *call.Record {
	s.t.Helper()
	for i := len(s.records) - 1; i >= 0; i-- {
		if s.records[i].Method == method {
			return s.records[i]
		}
	}
	s.t.Fatalf("no record of %s", method)
	return nil
}

// A probe that failed is OK as a call: its exit code and the sizes of what it
// printed are told, however much that is, and none of it.
func TestAFailedProbeIsTold(t *testing.T) {
	s := newSpine(t, nil)
	s.runtime.On("/runtime.v1.RuntimeService/ExecSync", fakecri.Reply(func(any) (any, error) {
		return &runtime.ExecSyncResponse{Stdout: bytes.Repeat([]byte("hunter2 "), 1<<17), Stderr: []byte("hunter2"), ExitCode: 7}, nil
	}))
	_, err := s.kubelet.Runtime.ExecSync(context.Background(), &runtime.ExecSyncRequest{ContainerId: "c1", Cmd: []string{"check", "hunter2"}})
	must(t, err)
	s.end()
	r := s.last("ExecSync")
	const want = `{"exit_code":7,"stdout":"‹1048576 bytes›","stderr":"‹7 bytes›"}`
	if r.Code != "OK" || r.ExitCode == nil || *r.ExitCode != 7 || string(r.Response) != want {
		t.Errorf("%s, exit code %v: %s", r.Code, r.ExitCode, r.Response)
	}
	if got := string(r.Request); got != `{"container_id":"c1","cmd":"‹2 entries›"}` {
		t.Errorf("request %s", got)
	}
}

// A long list is told as its first entries and its count.
func TestAListIsCounted(t *testing.T) {
	s := newSpine(t, nil)
	s.runtime.AddPods(110)
	list, err := s.kubelet.Runtime.ListContainers(context.Background(), &runtime.ListContainersRequest{})
	must(t, err)
	s.end()
	r := s.last("ListContainers")
	got := string(r.Response)
	if r.ResponseBytes < int64(codec.DefaultLimits().KeepBytes) || !strings.HasSuffix(got, ` more›"}]}`) || !r.Truncated || len(got) > 2048 {
		t.Errorf("%d containers, %d bytes, as %s", len(list.Containers), r.ResponseBytes, got)
	}
}

// What a server attaches to an error is told, and is scrubbed as its message is.
func TestErrorDetailsAreTold(t *testing.T) {
	s := newSpine(t, nil)
	s.runtime.On("/runtime.v1.RuntimeService/Version", fakecri.Fail(codes.Aborted, "busy",
		&errdetails.ResourceInfo{ResourceName: "vol-1", Description: "locked; password=hunter2"}))
	if _, err := s.kubelet.Runtime.Version(context.Background(), &runtime.VersionRequest{}); err == nil {
		t.Fatal("no error")
	}
	s.end()
	const want = `[{"@type":"google.rpc.ResourceInfo","resource_name":"vol-1","description":"locked; password=‹scrubbed›"}]`
	if r := s.last("Version"); string(r.Details) != want || r.Message != "busy" {
		t.Errorf("told %q %s", r.Message, r.Details)
	}
}

// Of a service that nobody knows, field numbers, wire types and lengths are told.
func TestUnknownServicesAreToldByNumber(t *testing.T) {
	s := newSpine(t, nil)
	_, err := fakecri.Say(context.Background(), s.kubelet.Conn(), []byte("hunter2"))
	must(t, err)
	_, err = fakecri.Chat(context.Background(), s.kubelet.Conn(), [][]byte{[]byte("hunter2"), []byte("x")})
	must(t, err)
	s.end()
	if r := s.last("Say"); string(r.Request) != `{"1":"‹7 bytes›"}` || string(r.Response) != `{"1":"‹7 bytes›"}` || r.Service != "example.v1.Echo" {
		t.Errorf("%s %s ← %s", r.Service, r.Request, r.Response)
	}
	if r := s.last("Chat"); string(r.Request) != `[{"1":"‹7 bytes›"},{"1":"‹1 byte›"}]` {
		t.Errorf("%s", r.Request)
	}
}

// The policy is kept: none tells no payload, full tells it, and neither forgets
// whose pod it is.
func TestPolicies(t *testing.T) {
	for level, want := range map[schema.Level]string{schema.None: "", schema.Full: `{"container_id":"c1","cmd":["check","hunter2"]}`} {
		s := newSpineWith(t, Config{Policy: schema.Policy{Payload: level}})
		_, _ = s.kubelet.Runtime.ExecSync(context.Background(), &runtime.ExecSyncRequest{ContainerId: "c1", Cmd: []string{"check", "hunter2"}})
		s.end()
		if r := s.last("ExecSync"); string(r.Request) != want || r.Container.ID != "c1" {
			t.Errorf("level %v: %s, container %q", level, r.Request, r.Container.ID)
		}
	}
}

// bomb panics with what it was given.
type bomb struct{ Decoder }

func (bomb) Write(_ codec.Side, _ any, b []byte) error { panic(string(b)) }

// A panic tells where it was, and no byte of what it was about.
func TestAPanicTellsNoBytes(t *testing.T) {
	var log syncBuffer
	tap := New(Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	c := &conn{id: 1, decoder: &closable{}}
	tap.guard(c, &mirror.Event{}, func() error { return bomb{}.Write(codec.Client, nil, []byte("hunter2")) })
	said := log.String()
	if strings.Contains(said, "hunter2") || strings.Contains(said, "0x") || !strings.Contains(said, "payload_test.go") || tap.Stats().GaveUp["panic"] != 1 {
		t.Errorf("said %s", said)
	}
}

func TestSecretsOfMessagesAreScrubbed(t *testing.T) {
	s := newSpine(t, nil)
	s.runtime.On("/runtime.v1.RuntimeService/Version", fakecri.Fail(13, "mount //nas/x: password=hunter2: permission denied"))
	_, err := s.kubelet.Runtime.Version(context.Background(), &runtime.VersionRequest{})
	if err == nil {
		t.Fatal("no error")
	}
	s.end()
	if r := s.records[0]; r.Message != "mount //nas/x: password=‹scrubbed›: permission denied" || r.Code != "INTERNAL" {
		t.Errorf("told %s %q", r.Code, r.Message)
	}
}
