package takeover

import (
	"strings"
	"testing"
	"time"
)

// A playbook: each line is a stretch of samples, one a millisecond, and what is
// said at its end. In a line, "in" has bytes in a queue, "ran" has the server run,
// "late" comes 21 ms after the one before, "busy" has somebody wait for half of
// the time.
func TestQuiet(t *testing.T) {
	for name, book := range map[string]string{
		"at rest": `
			1         machine
			249       machine
			1         now`,
		"a call": `
			300       now
			1 in      bytes
			249       bytes
			1         now`,
		"a call that no sample met": `
			300       now
			1 ran     work
			11        work
			1         now`,
		"polled 50 times a second, quick": `
			250       machine
			1 ran     work
			19        now
			1 ran     work
			12        now`,
		"a server that never rests": `
			240       machine
			11 ran    work
			12        now
			5 ran     work
			11        work
			5 ran     work`,
		"calls all the time": `
			1         machine
			1 in      bytes
			200       bytes
			1 in      bytes
			249       bytes
			1 in      bytes`,
		"we were late": `
			300       now
			1 late    machine
			249       machine
			1         now`,
		"a crowded machine": `
			100 busy  machine
			200 busy  machine
			400 busy  machine
			140       machine
			20        now`,
		"crowded for a moment": `
			300       now
			40 busy   now
			100       now`,
	} {
		t.Run(name, func(t *testing.T) { playQuiet(t, book) })
	}
}

func playQuiet(t *testing.T, book string) {
	t.Helper()
	said := map[error]string{nil: "now", errQueued: "bytes", errAtWork: "work", errCrowded: "machine"}
	var q quiet
	s := sample{at: time.Unix(1_000_000, 0)}
	for line := range strings.Lines(strings.TrimSpace(book)) {
		f := strings.Fields(line)
		n, err := time.ParseDuration(f[0] + "ms")
		if err != nil {
			t.Fatal(err)
		}
		var got error
		for range n.Milliseconds() {
			s.at, s.queued = s.at.Add(time.Millisecond), false
			switch f[1] {
			case "in":
				s.queued = true
			case "ran":
				s.ran++
			case "late":
				s.at = s.at.Add(20 * time.Millisecond)
			case "busy":
				s.waited += time.Millisecond / 2
			}
			got = q.add(s)
		}
		if want := f[len(f)-1]; said[got] != want {
			t.Fatalf("after %q: %s, not %s", strings.TrimSpace(line), said[got], want)
		}
	}
}

// What the kernel tells grows, and never runs ahead of the clock.
func TestWaited(t *testing.T) {
	before, began := waited(), time.Now()
	if before == 0 {
		t.Skip("this kernel does not tell how busy the machine is (/proc/pressure/cpu)")
	}
	time.Sleep(10 * time.Millisecond) // more or less
	after, passed := waited(), time.Since(began)
	if after < before || after-before > passed+time.Second {
		t.Errorf("%v more within %v", after-before, passed)
	}
}
