package e2e

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// Live attach where there is no moment for it: it declines, and nothing breaks.

// lists has a client list all pods, without a pause.
func (l *load) lists(path string) {
	l.t.Helper()
	conn, err := dial(path)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	rt := cri.NewRuntimeServiceClient(conn)
	l.add(func(ctx context.Context) error {
		_, err := rt.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		return err
	})
}

// reads has a client read the largest blob that a containerd has, by a streaming
// call of its own API, in messages of 1 MiB, without a pause.
func (l *load) reads(r *lab.Runtime) {
	l.t.Helper()
	blobs, _ := filepath.Glob(r.Path("*", "io.containerd.content.v1.content", "blobs", "sha256", "*"))
	var largest string
	var size int64
	for _, b := range blobs {
		if st, err := os.Stat(b); err == nil && st.Size() > size {
			largest, size = filepath.Base(b), st.Size()
		}
	}
	if _, err := hex.DecodeString(largest); err != nil || size == 0 {
		l.t.Fatalf("no blob found below %s: %q", r.Dir, blobs)
	}
	l.t.Logf("a blob of %d bytes", size)
	conn, err := dial(r.Socket)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	request := &emptypb.Empty{} // ReadContentRequest: the digest is field 1
	request.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "sha256:"+largest))
	l.add(func(ctx context.Context) error {
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "k8s.io")
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/containerd.services.content.v1.Content/Read")
		if err == nil {
			err = errors.Join(stream.SendMsg(request), stream.CloseSend())
		}
		for err == nil {
			err = stream.RecvMsg(&emptypb.Empty{})
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

// declines holds that live attach moves none of the clients, and that none of
// their calls fails.
func declines(t *testing.T, s served, l *load) {
	t.Helper()
	for range rounds(1, 5) {
		l.more(3)
		a := attach(t, s.path, "--live-attach")
		if n := a.decided(); n > 0 {
			t.Errorf("%d connections were moved, with no moment for it", n)
		}
		if !strings.Contains(a.Said(), "there was no moment") {
			t.Errorf("it does not say that there was no moment:\n%s", a.Said())
		}
		l.more(3)
		a.detach()
	}
	l.end()
	t.Logf("%d calls, none failed", l.done.Load())
}

// TestAttachLiveLargeMessages is of clients that get messages of 1 and 4 MiB, one
// after the other.
func TestAttachLiveLargeMessages(t *testing.T) {
	needRoot(t, "pidfd_getfd")
	for name, pods := range map[string]int{"1 MiB": 650, "4 MiB": 2600} {
		t.Run(name, func(t *testing.T) {
			s := fakeProcess(t, pods)
			l := newLoad(t)
			l.lists(s.path)
			l.lists(s.path)
			declines(t, s, l)
		})
	}
	t.Run("containerd", func(t *testing.T) {
		r := lab.Containerd(t, lab.Options{})
		l := newLoad(t)
		l.reads(r)
		declines(t, served{path: r.Socket, pid: r.PID()}, l)
	})
}

// TestAttachLiveSmallCalls is of clients that make small calls without a pause.
func TestAttachLiveSmallCalls(t *testing.T) {
	onProcesses(t, func(t *testing.T, s served) {
		l := newLoad(t)
		l.stays(s.path)
		declines(t, s, l)
	})
}

// TestAttachLiveHogs has more processes want a processor than there are: it may
// decline, or find a moment; no call fails.
func TestAttachLiveHogs(t *testing.T) {
	onProcesses(t, func(t *testing.T, s served) {
		moved, tries := 0, 0
		for range rounds(1, 10) {
			o := newOlder(t, s.path, "quiet-0", "quiet-1", "kubelet-0", "kubelet-1", "often-0")
			o.poll(2, 4, 270*time.Millisecond)
			end := hogs(t)
			a := attach(t, s.path, "--live-attach")
			moved += a.decided()
			end()
			tries += len(o.names)
			o.askAll()
			o.end()
			o.hangUp()
			a.detach()
		}
		t.Logf("%d of %d clients moved, no call failed", moved, tries)
	})
}

// hogs are processes that take what processor time they get, for some seconds.
func hogs(t testing.TB) (end func()) {
	t.Helper()
	var all []*exec.Cmd
	end = func() {
		for _, c := range all {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		all = nil
	}
	t.Cleanup(end)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rounds(8, 40))*time.Second)
	t.Cleanup(cancel)
	for range 4 {
		c := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return end
}
