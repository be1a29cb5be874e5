package phase

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// A script reads as a transcript. Its lines are
//
//	START +DURATION METHOD POD OBJECT [CODE] [native|unsampled|nameless] | PLACE
//	begin START METHOD POD OBJECT
//	tick SECONDS | what is told; and what fails
//	restart                    another tap comes, with the same store
//	named POD                  a list says its name
//	ran POD SANDBOX CONTAINER [exited]  a list shows it
//
// with times in seconds. An OBJECT is a sandbox, an image, a volume, or a
// container as NAME@ID. A PLACE is own, native, start or stop, with .EPOCH and
// .EPOCH.TURN where these are not 0, and >start of what it links to.
type script struct {
	t     *testing.T
	now   *Tracker
	store *kept
	calls int
	roots map[string]string // span id: the place of its children
}

// kept is a Store.
type kept struct{ epochs []Epoch }

func (k *kept) Load() ([]Epoch, error) { return k.epochs, nil }
func (k *kept) Save(all []Epoch) error { k.epochs = all; return nil }

const boot = "6a3e3b5d-boot"

var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func at(seconds string) time.Time {
	f, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		panic(err)
	}
	return midnight.Add(time.Duration(f * float64(time.Second)))
}

func play(t *testing.T, text string) {
	t.Helper()
	s := &script{t: t, store: &kept{}, roots: map[string]string{}}
	for n := range uint32(3) {
		for turn := range uint32(3) {
			for _, kind := range []call.PhaseKind{call.PodStart, call.PodStop} {
				for _, pod := range []string{"web", "db", "etcd"} {
					e := &epoch{Epoch: Epoch{Pod: call.Pod{UID: "u-" + pod}, N: n, Turn: turn}}
					_, span := ids(boot, e, kind)
					name := strings.TrimPrefix(string(kind), "pod ") + fmt.Sprintf(".%d.%d", n, turn)
					if kind == call.PodStart {
						name = fmt.Sprintf("start.%d.0", n)
					}
					s.roots[span] = strings.TrimSuffix(strings.TrimSuffix(name, ".0"), ".0")
				}
			}
		}
	}
	s.restart()
	for line := range strings.Lines(text) {
		do, want, _ := strings.Cut(line, "|")
		f := strings.Fields(do)
		if len(f) == 0 {
			continue
		}
		if got, want := s.do(f), strings.TrimSpace(want); got != want {
			t.Errorf("%s\n got %s\nwant %s", strings.TrimSpace(do), got, want)
		}
	}
}

func (s *script) restart() {
	if s.now != nil {
		if err := s.now.Save(); err != nil {
			s.t.Fatal(err)
		}
	}
	s.now, _ = New(boot, s.store)
}

func (s *script) do(f []string) string {
	switch f[0] {
	case "restart":
		s.restart()
	case "ran":
		s.now.Ran(podNamed(f[1]), f[2], f[3], len(f) == 4)
	case "named":
		s.now.Named(podNamed(f[1]))
	case "close":
		return said(s.now.Close(at(f[1])))
	case "tick":
		return said(s.now.Tick(at(f[1])))
	case "begin":
		r := record(f[1], "+0", f[2], f[3], f[4])
		r.State = call.Running
		s.now.Begin(r)
	default:
		r := record(f[0], f[1], f[2], f[3], f[4])
		s.calls++
		r.TraceID, r.SpanID = fmt.Sprintf("%032x", s.calls), fmt.Sprintf("%016x", s.calls)
		for _, word := range f[5:] {
			switch word {
			case "native", "unsampled":
				r.NativeParent, r.ParentSampled, r.ParentSpanID, r.TraceState = true, word == "native", "00000000000000ff", "a=b"
			case "nameless":
				r.Pod.Name, r.Pod.Namespace = "", ""
			default:
				r.Code, r.Message = word, word+"\nit went wrong\n"
			}
		}
		before := *r
		s.now.Place(r)
		return s.placed(&before, r)
	}
	return ""
}

func (s *script) placed(before, r *call.Record) string {
	place := s.roots[r.ParentSpanID]
	switch {
	case r.PodParent && (r.TraceState != "" || r.TraceID == before.TraceID):
		return "a mixture"
	case r.PodParent:
		return place
	case r.TraceID != before.TraceID || r.ParentSpanID != before.ParentSpanID || r.TraceState != before.TraceState:
		return "changed"
	case r.NativeParent:
		place = "native"
	default:
		place = "own"
	}
	if r.PodTraceID != "" {
		place += ">" + s.roots[r.PodSpanID]
	}
	return place
}

func podNamed(name string) call.Pod {
	if name == "-" {
		return call.Pod{}
	}
	return call.Pod{Namespace: "shop", Name: name, UID: "u-" + name}
}

// record is a call that ended with OK.
func record(start, took, method, pod, object string) *call.Record {
	d, _ := strconv.ParseFloat(took, 64)
	r := &call.Record{
		Start: at(start), DurationMS: d * 1000, State: call.Done, Code: "OK",
		Service: "runtime.v1.RuntimeService", Method: method, Pod: podNamed(pod), Socket: "/run/containerd/containerd.sock",
		Stream: uint32(at(start).Sub(midnight).Seconds()),
	}
	switch {
	case strings.HasPrefix(method, "Node"):
		r.Service, r.Socket = "csi.v1.Node", "/var/lib/kubelet/plugins/nfs/csi.sock"
		r.Volume = call.Volume{ID: object}
	case strings.Contains(object, "@"):
		r.Container.Name, r.Container.ID, _ = strings.Cut(object, "@")
	case method == "PullImage":
		r.Service, r.Image = "runtime.v1.ImageService", object
	case object != "-":
		r.SandboxID = object
	}
	return r
}

func said(ended []*call.Phase, failing []*call.Failing) string {
	var all []string
	seconds := func(at time.Time) string { return strconv.FormatFloat(at.Sub(midnight).Seconds(), 'f', -1, 64) }
	for _, p := range ended {
		line := fmt.Sprintf("%s %s %s-%s %d calls", p.Name(), p.Outcome, seconds(p.Begin), seconds(p.End), p.Count)
		if p.Failures > 0 {
			line += fmt.Sprintf(" %d failed", p.Failures)
		}
		all = append(all, line)
	}
	for _, f := range failing {
		all = append(all, fmt.Sprintf("%s %s x%d", f.Name(), f.Method, f.Failures))
	}
	return strings.Join(all, "; ")
}
