package takeover

import (
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// guardService answers calls on it: it hangs up on the first, as one does that is
// about to end, and then says ok, or why not.
func guardService(t *testing.T, path string, hangsUp int32, answer kind) (calls *atomic.Int32) {
	t.Helper()
	lis, err := proxy.ListenOwn("unixpacket", path)
	if err == nil {
		err = lis.Open()
	}
	if err != nil {
		t.Fatal(err)
	}
	calls = new(atomic.Int32)
	done := make(chan struct{})
	t.Cleanup(func() { lis.Shut(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := lis.AcceptUnix()
			if err != nil {
				return
			}
			c := &control{conn}
			calls.Add(1)
			for calls.Load() > hangsUp {
				m, err := c.hear()
				m.close()
				if err != nil || c.say(answer, "because") != nil {
					break
				}
			}
			c.close()
		}
	}()
	return calls
}

func guardedBy(t *testing.T, service string) (*relay, error) {
	t.Helper()
	path := filepath.Join(shortDir(t), "s.sock")
	grpcServer(t, path)
	r, err := newRelay(Config{Path: path, Guard: service, StateDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	if err := r.find(); err != nil {
		t.Fatal(err)
	}
	if err := r.claim(); err != nil {
		t.Fatal(err)
	}
	taken, err := r.place.take(t.Context(), nothing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.place.Undo(true); taken.close() })
	return r, r.guarded(t.Context(), taken)
}

// A guard's service that ends has its socket open for longer than it guards.
func TestAGuardThatIsAboutToEnd(t *testing.T) {
	service := filepath.Join(shortDir(t), "own", "guard")
	calls := guardService(t, service, 3, sayOK)
	r, err := guardedBy(t, service)
	if err != nil || r.guard == nil {
		t.Errorf("not guarded by the next one: %v", err)
	}
	r.end()
	if n := calls.Load(); n != 4 {
		t.Errorf("%d calls", n)
	}
}

// One that refuses is not asked again.
func TestAGuardThatRefuses(t *testing.T) {
	service := filepath.Join(shortDir(t), "own", "guard")
	calls := guardService(t, service, 0, sayNo)
	r, err := guardedBy(t, service)
	if err == nil || r.guard != nil {
		t.Errorf("guarded by who refuses: %v", err)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
}
