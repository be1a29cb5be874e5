//go:build kubelet

package e2e

import (
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestKubeletSwapped has a kubelet on a path of grpc-tap's own that fails open,
// from before any relay serves it, through all that may become of relay and taps:
// its pods run, and only what is in flight when a relay is killed is cut.
func TestKubeletSwapped(t *testing.T) {
	notSocat(t, "does not fail open")
	var w swapped
	k := newTurnover(t, func(r *lab.Runtime) string {
		w = swap(t, r.Socket)
		if err := os.Symlink(w.upstream, w.path); err != nil { // as tmpfiles.d does at boot
			t.Fatal(err)
		}
		return w.path
	})
	k.relay = w.stand()
	k.bypassed()
	k.seen()
	k.rounds(100)
	for range rounds(1, 2) { // at the third death no relay would begin
		k.kill(w)
		k.bypassed()
		k.seen()
	}

	k.stop()
	w.open()
	k.relay.start()
	k.bypassed()
	k.seen()

	k.orphan()
	w.open()
	k.end()
}

// TestKubeletTaken has a kubelet on containerd's own path, which is taken over.
func TestKubeletTaken(t *testing.T) {
	notSocat(t, "takes nothing over")
	k := newTurnover(t, func(r *lab.Runtime) string { return r.Socket })
	k.relay = stand(t, k.r.Socket)
	k.bypassed()
	k.seen()
	k.rounds(100)
	k.stop()
	k.end()
}

// bypassed has a tap come, and so the relay serve: the kubelet's connections are
// older, and go on past it. A pod's start before is for them to stand: a client
// whose connection ended dials when it has something to call.
func (k *turnover) bypassed() {
	k.t.Helper()
	k.turn("before", nothing)
	k.tap = k.relay.tap()
	k.turn("past", nothing)
	answers(k.t, k.relay.path)
	k.tap.Wait("a call of ours", isMethod("Version"))
	for _, r := range k.tap.Records() {
		if r.Method == "ListPodSandbox" {
			k.t.Fatalf("the kubelet dialled anew, though nobody asked it to: %s", r)
		}
	}
}

// seen starts the kubelet anew, whose connections are decoded then.
func (k *turnover) seen() {
	k.t.Helper()
	if err := k.Process.Stop(eventuallyTime); err != nil {
		k.t.Errorf("the kubelet, told to end by SIGTERM: %v", err)
	}
	k.StartAgain()
	k.decoded(time.Now())
	k.told()
	k.fine()
}

// rounds kills taps and replaces relays by turns, while pods start and stop.
func (k *turnover) rounds(many int) {
	k.t.Helper()
	n := rounds(2, many)
	for i := range n {
		k.round("tap", func() { k.replaceTap(i%2 == 0) })
		k.round("relay", k.replaceRelay)
	}
	k.t.Logf("%d taps, %d relays, %d pods, no call failed; decoded again after at most %v; %d ends of pods untold whose",
		n, n, k.turns, k.took, k.unnamed)
}

func (k *turnover) round(what string, replace func()) {
	k.t.Helper()
	k.turn(what, func() {
		began := time.Now()
		replace()
		k.decoded(time.Now())
		k.took[what] = max(k.took[what], time.Since(began))
	})
	k.told()
	k.processes()
	if k.fine(); k.t.Failed() {
		k.t.Fatalf("after another %s; the tap said:\n%s", what, k.tap.Said())
	}
}

func (k *turnover) replaceTap(kill bool) {
	k.t.Helper()
	if kill {
		k.tap.Killed()
	} else {
		k.tap.leave()
	}
	k.tap = k.relay.tap()
}

// replaceRelay returns when the old relay has ended: when nobody is connected to
// it any more.
func (k *turnover) replaceRelay() {
	k.t.Helper()
	old, guard := k.relay.Process, childOf(k.relay.PID(), "guard")
	k.relay.start()
	select {
	case <-old.Done():
	case <-time.After(eventuallyTime):
		k.t.Fatalf("the old relay (pid %d) stays", old.PID())
	}
	k.ends(guard)
}

// ends waits for the end of a guard, whose relay has ended.
func (k *turnover) ends(guard int) {
	k.t.Helper()
	(&attached{Tap: &Tap{t: k.t}, guard: guard}).processesEnd()
}

// stop ends the relay: nobody notices but the tap.
func (k *turnover) stop() {
	k.t.Helper()
	k.turn("stopped", func() {
		k.relay.end()
		k.tap.fails("no relay stands at")
	})
	k.fine()
}

// orphan leaves the relay without a tap for so long that it ends.
func (k *turnover) orphan() {
	k.t.Helper()
	k.relay.argv = append(k.relay.argv, "--orphan-timeout", "5s")
	k.replaceRelay()
	k.decoded(time.Now())
	guard := childOf(k.relay.PID(), "guard")
	k.tap.leave()
	<-k.relay.Done()
	if err := k.relay.Process.Stop(time.Second); err != nil {
		k.t.Errorf("the relay, without a tap, ended with %v", err)
	}
	k.ends(guard)
	k.turn("orphaned", nothing)
	k.fine()
}

// kill kills the relay at some moment of a pod's start: calls in flight are cut,
// nothing is refused, and the pod runs.
func (k *turnover) kill(w swapped) {
	k.t.Helper()
	guard := childOf(k.relay.PID(), "guard")
	k.from = len(k.Log())
	k.turn("killed", func() {
		time.Sleep(rand.N(time.Second))
		k.relay.Kill()
		w.awaitOpen()
		k.tap.fails("died")
		k.ends(guard)
	})
	w.open()
	log := reserved.ReplaceAllString(k.log(), "")
	k.t.Logf("cut with the relay: %v", failuresIn(log))
	for failed := range failuresIn(log) {
		if !k.direct[failed] && !strings.HasSuffix(failed, " Unavailable") {
			k.t.Errorf("the kubelet logs as failed: %s", failed)
		}
	}
	for _, line := range carriersFaults(log) {
		if refused.MatchString(line) {
			k.t.Errorf("not cut in flight: %s", line)
		}
	}
	k.from = len(k.Log())
	k.relay.start()
}

var (
	refused = regexp.MustCompile(`refused|no such file`)
	// reserved is how the runtime refuses what it has not yet given up of a call that
	// was cut: the kubelet tries again.
	reserved = regexp.MustCompile(`(?m)^.*failed to reserve \w+ name.*$`)
	// gaveUp is of cAdvisor, which gives a connection 100 ms to stand, and then dials
	// anew: a busy machine is slower.
	gaveUp = regexp.MustCompile(`(?m)^.*createTransport failed .*use of closed network connection.*$`)
)
