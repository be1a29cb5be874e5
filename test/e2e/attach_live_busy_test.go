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

// TestAttachLiveBusy is of clients that call without a pause, for messages of 1
// and 4 MiB or for small ones.
func TestAttachLiveBusy(t *testing.T) {
	needRoot(t, "pidfd_getfd")
	fakes := func(pods int, add func(l *load, path string)) func(*testing.T) {
		return func(t *testing.T) {
			s, l := fakeProcess(t, pods), newLoad(t)
			add(l, s.path)
			declines(t, s, l)
		}
	}
	containerd := func(add func(l *load, r *lab.Runtime)) func(*testing.T) {
		return func(t *testing.T) {
			r, l := lab.Containerd(t, lab.Options{}), newLoad(t)
			add(l, r)
			declines(t, served{path: r.Socket}, l)
		}
	}
	for name, test := range map[string]func(*testing.T){
		"1 MiB, fakes":      fakes(650, (*load).lists),
		"4 MiB, fakes":      fakes(2600, (*load).lists),
		"1 MiB, containerd": containerd((*load).reads),
		"small, fakes":      fakes(0, (*load).stays),
		"small, containerd": containerd(func(l *load, r *lab.Runtime) { l.stays(r.Socket) }),
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv("SOAK") == "" {
				t.Parallel() // each waits for its half a minute
			}
			test(t)
		})
	}
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
