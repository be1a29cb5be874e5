package tap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec"
	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

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

func TestARelayThatDiesIsSaid(t *testing.T) {
	err, closed := ending(t, func(*mirror.Writer) {})
	if !errors.Is(err, ErrRelayGone) {
		t.Errorf("error %v", err)
	}
	if !closed {
		t.Error("calls that were cut with the relay are not told as lost")
	}
}

// A tap that another takes the place of ends without inventing how its calls end.
func TestAnotherTapReads(t *testing.T) {
	err, closed := ending(t, (*mirror.Writer).Over)
	if !errors.Is(err, ErrOver) {
		t.Errorf("error %v", err)
	}
	if closed {
		t.Error("its calls are told as lost")
	}
}

// ending is what a tap makes of a mirror that ends like this while a connection is open,
// and whether it has closed that.
func ending(t *testing.T, end func(*mirror.Writer)) (err error, closed bool) {
	t.Helper()
	var stream bytes.Buffer
	w := mirror.NewWriter(mirror.DefaultQueue)
	w.Hello("/a", "/b")
	w.Open(1, mirror.Peers{}).Chunk(mirror.FromClient, []byte("x"))
	end(w)
	done := make(chan struct{})
	close(done)
	must(t, w.WriteTo(&stream, done))
	r, h, err := mirror.NewReader(&stream)
	must(t, err)
	d := &closable{}
	err = New(Config{Log: slog.New(slog.DiscardHandler), NewDecoder: func(func(*codec.Call)) Decoder { return d }}).Run(r, h)
	return err, d.closed
}

// closable is a decoder that notes that its connection was closed.
type closable struct {
	Decoder
	closed bool
}

func (*closable) Write(codec.Side, time.Time, []byte) error { return nil }
func (*closable) GiveUp(time.Time, *codec.GaveUp) error     { return nil }
func (*closable) Running() int                              { return 0 }
func (*closable) OverLimit() uint64                         { return 0 }
func (d *closable) Close(time.Time)                         { d.closed = true }

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
