//go:build kubelet

package e2e

import (
	"cmp"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// The tests named TestKubelet… have a real kubelet for a client.
// test/lab/kubelet.sh builds it and runs them.

// TestKubelet is of the lab alone: with nothing between the kubelet and
// containerd, pods run.
func TestKubelet(t *testing.T) {
	l := newKubeletLife(t, func(r *lab.Runtime) string { return r.Socket })
	l.live()
}

// TestKubeletThroughProxy has the kubelet dial grpc-tap's socket for the
// runtime's from its first call on. What fails is what fails without grpc-tap,
// and the records tell of its pods by the ids that containerd has.
func TestKubeletThroughProxy(t *testing.T) {
	var direct map[string]bool
	t.Run("directly", func(t *testing.T) {
		l := newKubeletLife(t, func(r *lab.Runtime) string { return r.Socket })
		l.live()
		direct = l.failures()
	})
	t.Run("through", func(t *testing.T) {
		var tap *Tap
		l := newKubeletLife(t, func(r *lab.Runtime) string {
			tap = Proxy(t, r.Socket)
			return tap.Listen
		})
		l.live()
		l.checkFailures(direct)
		if !tap.Tells {
			return
		}
		l.checkPullError(tap)
		for _, p := range l.pods {
			l.checkTold(tap, p, "RunPodSandbox", "CreateContainer", "StartContainer")
		}
		l.checkTold(tap, l.pods[0], "StopContainer", "StopPodSandbox")
		// Before the kubelet ends: it may do that in the middle of a call.
		if said := tap.Complained(); len(said) > 0 {
			t.Errorf("it did not read all of it:\n%s", strings.Join(said, "\n"))
		}
		l.checkOwnWords(tap.Records(), direct)
	})
}

// TestKubeletAttach takes over containerd's socket under a kubelet that runs
// pods, and gives it back. The kubelet is started anew meanwhile, as its
// connections are older than grpc-tap is.
func TestKubeletAttach(t *testing.T) {
	notSocat(t, "attaches to nothing")
	l := newKubeletLife(t, func(r *lab.Runtime) string { return r.Socket })
	first := l.run(lab.Pod{Name: "first"})
	direct := l.failures()

	a := attach(t, l.r.Socket)
	if err := l.Process.Stop(eventuallyTime); err != nil {
		t.Errorf("the kubelet, told to end by SIGTERM: %v", err)
	}
	l.StartAgain()
	second := l.run(lab.Pod{Name: "second"})
	l.checkTold(a.Tap, second, "RunPodSandbox", "CreateContainer", "StartContainer")
	l.remove(second)
	l.checkTold(a.Tap, second, "StopContainer", "StopPodSandbox")
	l.checkOwnWords(a.Records(), direct)
	a.detach()

	l.run(lab.Pod{Name: "third"})
	if sandbox, container := l.Running(first.Pod); sandbox != first.sandbox || container != first.container {
		t.Errorf("pod first was started anew: it was %s in %s, and is %s in %s", first.container, first.sandbox, container, sandbox)
	}
	l.checkFailures(direct)
}

// kubeletLife is a kubelet, and the pods that it was given.
type kubeletLife struct {
	*lab.Kubelet
	r    *lab.Runtime
	pods []*kubeletPod
	t    *testing.T
}

// kubeletPod is a static pod, with the ids that containerd has for it.
type kubeletPod struct {
	lab.Pod
	sandbox, container string
}

// newKubeletLife starts a containerd, and a kubelet on the socket that at
// returns.
func newKubeletLife(t *testing.T, at func(*lab.Runtime) string) *kubeletLife {
	r := lab.Containerd(t, lab.Options{})
	l := &kubeletLife{Kubelet: r.Kubelet(at(r)), r: r, t: t}
	t.Logf("kubelet on containerd %s", r.Version)
	return l
}

// live takes a pod with a network of its own through its life, and starts one
// with the host's, and one whose image nobody has.
func (l *kubeletLife) live() {
	l.t.Helper()
	own := l.run(lab.Pod{Name: "own"})
	l.run(lab.Pod{Name: "hosts", HostNetwork: true})
	l.Put(noImage)
	l.Until("the kubelet logs that it can't pull an image", eventuallyTime, func() bool {
		return l.failures()["PullImage UNKNOWN"]
	})
	l.remove(own)
}

var noImage = lab.Pod{Name: "none", Image: "lab.invalid/none:1"}

func (l *kubeletLife) run(pod lab.Pod) *kubeletPod {
	l.t.Helper()
	p := &kubeletPod{Pod: pod}
	l.Put(pod)
	p.sandbox, p.container = l.Running(pod)
	l.pods = append(l.pods, p)
	return p
}

func (l *kubeletLife) remove(p *kubeletPod) {
	l.t.Helper()
	l.Remove(p.Pod)
	l.Gone(p.Pod)
}

// checkTold holds that calls about a pod are told: as the kubelet's, as OK, and
// with the names and ids of what they were about.
func (l *kubeletLife) checkTold(tap *Tap, p *kubeletPod, methods ...string) {
	l.t.Helper()
	for _, method := range methods {
		ofContainer := strings.HasSuffix(method, "Container")
		r := tap.Wait(method+" of pod "+p.FullName(), func(r Record) bool {
			return r.Method == method && r.Pod.Name == p.FullName()
		})
		if r.Code != "OK" || r.Pod.Namespace != "default" || r.SandboxID != p.sandbox || r.Caller.PID != l.PID() || r.Caller.Exe != os.Getenv("KUBELET") {
			l.t.Errorf("not told as the kubelet's, about sandbox %s of default/%s: %s", p.sandbox, p.FullName(), r)
		}
		if ofContainer && (r.Container.Name != lab.ContainerName || r.Container.ID != p.container) {
			l.t.Errorf("not told as about %s[%s] %s: %s", p.FullName(), lab.ContainerName, p.container, r)
		}
	}
}

// checkPullError holds that the error of the image that nobody has is told word
// for word as the kubelet has it.
func (l *kubeletLife) checkPullError(tap *Tap) {
	l.t.Helper()
	r := tap.Wait("an image that can't be pulled", func(r Record) bool { return r.Method == "PullImage" && r.Code == "UNKNOWN" })
	if r.Pod.Name != noImage.FullName() || r.Image != noImage.Image {
		l.t.Errorf("not told as about %s, of pod %s: %s", noImage.Image, noImage.FullName(), r)
	}
	quoted := strconv.Quote(r.Message) // as the log has it, but for the beginning
	if !strings.Contains(l.Log(), "code = Unknown desc = "+quoted[1:]) {
		l.t.Errorf("not the kubelet's words: %q", r.Message)
	}
}

// checkOwnWords holds that each of the kubelet's calls has ended by what the
// runtime said, and that it refused none but those that fail without grpc-tap
// too, and what was gone when it was asked for, which is not always logged.
func (l *kubeletLife) checkOwnWords(records []Record, direct map[string]bool) {
	l.t.Helper()
	n := map[string]int{}
	for _, r := range records {
		if r.Caller.PID != l.PID() {
			continue // the one before it, which may have ended in the middle of a call
		}
		call := r.Method + " " + r.Code
		n[call]++
		if r.State != "done" || r.Code != "OK" && r.Code != "NOT_FOUND" && !direct[call] {
			l.t.Errorf("failed, and not by the runtime's own word: %s", r)
		}
	}
	l.t.Logf("the kubelet's calls: %v", n)
}

// failures are the calls to its runtime that the kubelet logs as failed, each
// with its code; but NotFound and a container that it removes twice at once, which
// are a matter of who is first, and Canceled, which is its own doing.
func (l *kubeletLife) failures() map[string]bool {
	l.t.Helper()
	return failuresIn(l.Log())
}

func failuresIn(log string) map[string]bool {
	failed := map[string]bool{}
	for _, m := range criFailed.FindAllStringSubmatch(log, -1) {
		method, code, message := m[1], m[2], m[3]
		if code != "NotFound" && code != "Canceled" && !strings.Contains(message, "already in removing state") {
			failed[method+" "+cmp.Or(codeNames[code], code)] = true
		}
	}
	return failed
}

// checkFailures holds that no others failed than do without grpc-tap, and that
// nothing is the fault of what carried them.
func (l *kubeletLife) checkFailures(direct map[string]bool) {
	l.t.Helper()
	if through := l.failures(); !maps.Equal(direct, through) {
		l.t.Errorf("what the kubelet logs as failed:\ndirectly %v\nthrough  %v", direct, through)
	}
	for _, line := range carriersFaults(l.Log()) {
		l.t.Errorf("the kubelet logs: %s", line)
	}
}

// carriersFaults are the lines of a log that blame what carries the calls.
func carriersFaults(log string) (lines []string) {
	for line := range strings.Lines(log) {
		if carriersFault.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

var (
	criFailed     = regexp.MustCompile(`"(?:Get )?(\w+)[^"]* from (?:runtime|image) service failed" err="rpc error: code = (\w+)(.*)`)
	carriersFault = regexp.MustCompile(`code = (Unavailable|Internal)|\bEOF\b|transport|connection error`)
)
