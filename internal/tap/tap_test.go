package tap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec"
	"github.com/grpc-tap/grpc-tap/internal/identity"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/proxy"
	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spine is a fake runtime behind a real relay and a tap, all in this process.
type spine struct {
	t       *testing.T
	runtime *fakecri.Runtime
	kubelet *fakecri.Kubelet
	path    string
	tap     *Tap
	log     *syncBuffer
	end     func() // detaches, and waits for the tap
	mu      sync.Mutex
	records []*call.Record
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Records implements Sink.
func (s *spine) Records(all []*call.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, all...)
}

func newSpine(t *testing.T, decoder func(func(*codec.Call)) Decoder) *spine {
	t.Helper()
	return newSpineWith(t, Config{NewDecoder: decoder})
}

func newSpineWith(t *testing.T, cfg Config) *spine {
	t.Helper()
	dir, err := os.MkdirTemp("", "spine")
	must(t, err)
	s := &spine{t: t, runtime: fakecri.NewRuntime(), path: filepath.Join(dir, "tap.sock"), log: &syncBuffer{}}
	up := filepath.Join(dir, "up.sock")
	must(t, s.runtime.Start(up))

	ours, theirs := pair(t)
	ended := make(chan error, 1)
	go func() { ended <- proxy.Run(context.Background(), proxy.Config{Listen: s.path, Upstream: up}, theirs) }()
	serving := make(chan struct{})
	queue := NewQueue("test", s, QueueSize)
	cfg.Out = NewOut(identity.New(), nil, queue)
	cfg.Log = slog.New(slog.NewTextHandler(s.log, nil))
	cfg.Serving = func(mirror.Hello, string) { close(serving) }
	s.tap = New(cfg)
	ahead := mirror.NewAhead(ours, mirror.DefaultAhead)
	read := make(chan error, 1)
	go func() {
		r, h, err := mirror.NewReader(ahead)
		if err == nil {
			err = mirror.Ready(ours, mirror.Read)
		}
		if err == nil {
			err = s.tap.Run(r, h)
		}
		read <- err
	}()
	<-serving
	s.kubelet, err = fakecri.NewKubelet(s.path)
	must(t, err)
	s.end = sync.OnceFunc(func() {
		_ = s.kubelet.Close()
		_ = ours.CloseWrite()
		if err := <-read; err != nil {
			t.Errorf("tap: %v", err)
		}
		_ = ours.Close()
		ahead.Close()
		cfg.Out.Close()
		queue.Close(context.Background())
		if err := <-ended; err != nil {
			t.Errorf("relay: %v", err)
		}
		s.runtime.Stop()
		_ = os.RemoveAll(dir)
	})
	t.Cleanup(s.end)
	return s
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		must(t, err)
		_ = f.Close()
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *spine) version() {
	s.t.Helper()
	if _, err := s.kubelet.Runtime.Version(context.Background(), &runtime.VersionRequest{}); err != nil {
		s.t.Fatalf("a call failed: %v", err)
	}
}

func TestAPodsStartIsTold(t *testing.T) {
	s := newSpine(t, nil)
	pod, err := s.kubelet.StartPod(context.Background(), fakecri.Pod{
		Namespace: "shop", Name: "web-0", UID: "u-1", Containers: []fakecri.Container{{Name: "web", Image: "registry.example.com/web:1"}},
	})
	must(t, err)
	must(t, s.kubelet.StopPod(context.Background(), pod))
	s.end()
	told := map[string]bool{}
	for _, r := range s.records {
		told[r.Method] = true
		if r.Code != "OK" || r.State != call.Done || r.TraceID == "" || r.SpanID == "" || r.Socket != s.path || r.DurationMS <= 0 {
			t.Errorf("record %+v", r)
		}
		if strings.Contains(r.Method, "Sandbox") && r.Pod != (call.Pod{Namespace: "shop", Name: "web-0", UID: "u-1"}) {
			t.Errorf("%s is about %+v", r.Method, r.Pod)
		}
		if strings.HasSuffix(r.Method, "Container") && (r.Pod.Name != "web-0" || r.Container.Name != "web" || r.Container.ID == "" || r.SandboxID == "") {
			t.Errorf("%s is about %+v %+v", r.Method, r.Pod, r.Container)
		}
		if r.Method == "CreateContainer" && !strings.Contains(string(r.Request), `"name":"web"`) {
			t.Errorf("request is told as %s", r.Request)
		}
	}
	for _, m := range []string{"RunPodSandbox", "PullImage", "CreateContainer", "StartContainer", "StopContainer", "StopPodSandbox"} {
		if !told[m] {
			t.Errorf("no record of %s", m)
		}
	}
}

// panicky decodes until it has seen a call's end, and then does what a bug does.
type panicky struct{ Decoder }

func (p panicky) Write(s codec.Side, at time.Time, b []byte) error {
	if s == codec.Server && bytes.Contains(b, []byte("fakeruntime")) {
		panic("a bug, with secret=hunter2 at hand")
	}
	return p.Decoder.Write(s, at, b)
}

// A decoder that panics loses no call and no other connection, and is said.
func TestAPanicEndsOneDecoderOnly(t *testing.T) {
	var first sync.Once
	s := newSpine(t, func(ended func(*codec.Call)) Decoder {
		var d Decoder = codec.NewConn(codec.DefaultLimits(), codec.NewBuffers(1<<20), ended)
		first.Do(func() { d = panicky{d} })
		return d
	})
	for range 10 {
		s.version()
	}
	other, err := fakecri.NewKubelet(s.path)
	must(t, err)
	_, err = other.Runtime.Version(context.Background(), &runtime.VersionRequest{})
	must(t, err)
	_ = other.Close()
	s.end()
	if len(s.records) != 2 || s.records[0].State != call.Lost || s.records[0].Connection != 1 || s.records[1].State != call.Done || s.records[1].Connection != 2 {
		t.Errorf("%d records, expected a lost one and that of the second connection", len(s.records))
	}
	st := s.tap.Stats()
	if st.Blind != 1 || st.GaveUp["panic"] != 1 {
		t.Errorf("stats %+v", st)
	}
	if log := s.log.String(); strings.Count(log, "blind from here on") != 1 || strings.Contains(log, "hunter2") {
		t.Errorf("said %s", log)
	}
}

// hopeless panics whatever is asked of it.
type hopeless struct{ Decoder }

func (hopeless) GiveUp(time.Time, *codec.GaveUp) error { panic("again") }
func (hopeless) Running() int                          { return 0 }
func (hopeless) OverLimit() uint64                     { return 0 }

func TestAPanicWhileGivingUpIsSurvivedToo(t *testing.T) {
	tap := New(Config{Log: slog.New(slog.DiscardHandler), NewDecoder: func(func(*codec.Call)) Decoder { return hopeless{} }})
	tap.event(&mirror.Event{Kind: mirror.KindOpen, Conn: 1})
	tap.event(&mirror.Event{Kind: mirror.KindBlind, Conn: 1})
	tap.event(&mirror.Event{Kind: mirror.KindOpen, Conn: 2})
	tap.event(&mirror.Event{Kind: mirror.KindChunk, Conn: 2, Data: []byte("x")})
	tap.event(&mirror.Event{Kind: mirror.KindClose, Conn: 2})
	if st := tap.Stats(); st.Blind != 2 || st.GaveUp["panic"] != 1 {
		t.Errorf("stats %+v", st)
	}
}

// stuck does not return until it is released.
type stuck struct {
	Decoder
	release chan struct{}
}

func (d stuck) Write(s codec.Side, at time.Time, b []byte) error {
	<-d.release
	return d.Decoder.Write(s, at, b)
}

// A decoder that stalls loses no call. What then overflows is one connection's
// sight, counted to the byte and said once.
func TestAStallLosesNoCall(t *testing.T) {
	release := make(chan struct{})
	s := newSpine(t, func(ended func(*codec.Call)) Decoder {
		return stuck{codec.NewConn(codec.DefaultLimits(), codec.NewBuffers(1<<20), ended), release}
	})
	free := sync.OnceFunc(func() { close(release) })
	t.Cleanup(free) // before the spine's own end, also if a call fails
	s.runtime.AddPods(1)
	s.runtime.On("/runtime.v1.RuntimeService/ListContainers", fakecri.Grow(4<<20))
	for range 20 { // 80 MB: more than the queue and all that is read ahead
		_, err := s.kubelet.Runtime.ListContainers(context.Background(), &runtime.ListContainersRequest{})
		must(t, err)
	}
	free()
	s.end()
	st := s.tap.Stats()
	if st.Blind != 1 || st.GaveUp["mirror_overflow"] != 1 || st.DroppedBytes == 0 {
		t.Errorf("stats %+v", st)
	}
	if log := s.log.String(); strings.Count(log, "blind from here on") != 1 {
		t.Errorf("said %s", log)
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

func TestARelayThatDiesIsSaid(t *testing.T) {
	var stream bytes.Buffer
	w := mirror.NewWriter(mirror.DefaultQueue)
	w.Hello("/a", "/b")
	w.Open(1, mirror.Peers{}).Chunk(mirror.FromClient, []byte("x"))
	done := make(chan struct{})
	close(done)
	must(t, w.WriteTo(&stream, done))
	r, h, err := mirror.NewReader(&stream)
	must(t, err)
	d := &closable{}
	cfg := Config{Log: slog.New(slog.DiscardHandler), NewDecoder: func(func(*codec.Call)) Decoder { return d }}
	if err := New(cfg).Run(r, h); !errors.Is(err, ErrRelayGone) {
		t.Errorf("error %v", err)
	}
	if d.closed.IsZero() {
		t.Error("calls that were cut with the relay are not told as lost")
	}
}

// closable is a decoder that notes when its connection was closed.
type closable struct{ closed time.Time }

func (*closable) Write(codec.Side, time.Time, []byte) error { return nil }
func (*closable) GiveUp(time.Time, *codec.GaveUp) error     { return nil }
func (*closable) End(codec.Side, time.Time)                 {}
func (*closable) Running() int                              { return 0 }
func (*closable) Open() iter.Seq2[string, time.Time] {
	return func(func(string, time.Time) bool) {}
}
func (*closable) OverLimit() uint64 { return 0 }

func (d *closable) Close(at time.Time) { d.closed = at }

type slowSink struct{ release chan struct{} }

func (s slowSink) Records([]*call.Record) { <-s.release }

func TestASlowSinkHoldsUpNobodyAndIsCounted(t *testing.T) {
	release := make(chan struct{})
	q := NewQueue("slow", slowSink{release}, 2)
	for range 10 {
		q.put(&call.Record{})
	}
	// One may be in the sink's hands, two are queued.
	if d := q.Dropped(); d != 7 && d != 8 {
		t.Errorf("%d dropped", d)
	}
	close(release)
	q.Close(context.Background())
}

func TestTraceparent(t *testing.T) {
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for s, want := range map[string]bool{
		"00-" + id + "-" + parent + "-01":                              true,
		"00-" + id + "-" + parent + "-00":                              true,
		"cc-" + id + "-" + parent + "-01-what-the-future-will-be-like": true,
		"00-" + id + "-" + parent + "-01-more":                         false,
		"ff-" + id + "-" + parent + "-01":                              false,
		"00-" + strings.Repeat("0", 32) + "-" + parent + "-01":         false,
		"00-" + id + "-" + strings.Repeat("0", 16) + "-01":             false,
		"00-" + strings.ToUpper(id) + "-" + parent + "-01":             false,
		"00-" + id + "-" + parent:                                      false,
		"":                                                             false,
	} {
		r := &call.Record{}
		trace(r, s, "vendor=1")
		if r.NativeParent != want || (r.TraceID == id) != want || (r.ParentSpanID == parent) != want || (r.TraceState != "") != want {
			t.Errorf("%q: %+v", s, r)
		}
		if len(r.TraceID) != 32 || len(r.SpanID) != 16 {
			t.Errorf("%q: ids %q %q", s, r.TraceID, r.SpanID)
		}
	}
}

func TestPaths(t *testing.T) {
	for path, want := range map[string]string{
		"/runtime.v1.RuntimeService/Version": "runtime.v1.RuntimeService Version",
		"Version":                            " Version", "": " ", "/a/b/c": "a/b c", "/x\xff/y": "x\uFFFD y",
	} {
		s, m := splitPath(path)
		if got := fmt.Sprintf("%s %s", s, m); got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}

// What can't be decoded is asked for, so that it is dialled anew: each old
// connection once, and one that went blind as often as its process may be asked.
func TestAsksForWhatItCannotDecode(t *testing.T) {
	var asked []uint64
	tap := New(Config{
		Log: slog.New(slog.DiscardHandler), NewDecoder: func(func(*codec.Call)) Decoder { return &closable{} },
		Redial: func(c uint64) { asked = append(asked, c) },
	})
	at := time.Unix(1000, 0)
	tap.event(&mirror.Event{Kind: mirror.KindOld, Conn: 1, At: at, Peers: mirror.Peers{ClientPID: 7}})
	blind := func(conn uint64, at time.Time) {
		tap.event(&mirror.Event{Kind: mirror.KindBlind, Conn: conn, At: at})
	}
	for conn := uint64(2); conn < 2+askAtMost+1; conn++ {
		tap.event(&mirror.Event{Kind: mirror.KindOpen, Conn: conn, At: at, Peers: mirror.Peers{ClientPID: 7}})
		blind(conn, at)
		blind(conn, at)
	}
	if want := []uint64{1, 2, 3, 4, 5}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, not %v", asked, want)
	}
	blind(6, at.Add(askWithin+1))
	if len(asked) != 6 || asked[5] != 6 {
		t.Errorf("the one that had to wait is not asked for: %v", asked)
	}
	if st := tap.Stats(); st.Old != 1 || st.Blind != askAtMost+1 || st.Connections != askAtMost+2 {
		t.Errorf("stats %+v", st)
	}
}

// A tap that another takes the place of ends without inventing how its calls end.
func TestAnotherTapReads(t *testing.T) {
	var stream bytes.Buffer
	w := mirror.NewWriter(mirror.DefaultQueue)
	w.Hello("/a", "/b")
	w.Open(1, mirror.Peers{}).Chunk(mirror.FromClient, []byte("x"))
	w.Over()
	done := make(chan struct{})
	close(done)
	must(t, w.WriteTo(&stream, done))
	r, h, err := mirror.NewReader(&stream)
	must(t, err)
	d := &closable{}
	cfg := Config{Log: slog.New(slog.DiscardHandler), NewDecoder: func(func(*codec.Call)) Decoder { return d }}
	if err := New(cfg).Run(r, h); !errors.Is(err, ErrOver) {
		t.Errorf("error %v", err)
	}
	if !d.closed.IsZero() {
		t.Error("its calls are told as lost")
	}
}
