package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// Tap is a `grpc-tap proxy` that runs, with the records it has printed.
type Tap struct {
	*lab.Process
	Listen string // the path that clients dial
	Tells  bool   // false: it is socat, and there are no records

	t       testing.TB
	lab     *lab.Lab
	stopped bool
}

// Proxy starts `grpc-tap proxy` in front of upstream and waits until it
// accepts. It is stopped with the test, which fails if it does not end well.
func Proxy(t testing.TB, upstream string, args ...string) *Tap {
	t.Helper()
	l := lab.New(t)
	p := &Tap{Listen: l.Path("tap.sock"), Tells: true, t: t, lab: l}
	argv := append([]string{binary, "proxy", "--listen", p.Listen, "--upstream", upstream, "-o", "json"}, args...)
	if os.Getenv("RELAY") == "socat" {
		p.Tells = false
		argv = []string{"socat", "-t", "600", "UNIX-LISTEN:" + p.Listen + ",fork,mode=0600,backlog=128", "UNIX-CONNECT:" + upstream}
	}
	p.Process = l.Start("grpc-tap", nil, argv...)
	p.Accepts(p.Listen, 10*time.Second)
	t.Cleanup(p.Stop)
	return p
}

// Stop ends the proxy by SIGTERM, as a service manager would, and checks that
// nothing of it is left: no process, no socket, exit code 0. Its clients must
// have hung up: the relay stays as long as one is there.
func (p *Tap) Stop() {
	p.t.Helper()
	if p.stopped {
		return
	}
	p.stopped = true
	err := p.Process.Stop(10 * time.Second)
	if !p.Tells {
		return
	}
	if err != nil {
		p.t.Errorf("grpc-tap proxy, told to end by SIGTERM: %v; stderr:\n%s", err, p.Said())
	}
	// Its relay ends with its last client, which may have hung up just now.
	for deadline := time.Now().Add(2 * time.Second); len(p.lab.Processes()) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Errorf("grpc-tap proxy ended but left processes %v", p.lab.Processes())
			break
		}
	}
	if _, err := os.Lstat(p.Listen); !os.IsNotExist(err) {
		p.t.Errorf("grpc-tap proxy ended but left its socket: %v", err)
	}
}

// Killed ends grpc-tap by SIGKILL, but not the relay that it has started.
func (p *Tap) Killed() {
	p.t.Helper()
	p.stopped = true
	p.Process.Kill()
}

// Said is all that it wrote to stderr.
func (p *Tap) Said() string {
	b, err := os.ReadFile(p.Stderr)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

// says waits until it says all of these, in one line.
func (p *Tap) says(all ...string) {
	p.t.Helper()
	p.Until(fmt.Sprintf("it says %q", all), time.Minute, func() bool {
		for line := range strings.Lines(p.Said()) {
			if !slices.ContainsFunc(all, func(s string) bool { return !strings.Contains(line, s) }) {
				return true
			}
		}
		return false
	})
}

// Complained are the lines on stderr that own up to not having understood or
// not having told something.
func (p *Tap) Complained() (said []string) {
	for line := range strings.Lines(p.Said()) {
		if slices.ContainsFunc([]string{"blind", "opaque", "decod", "drop", "panic", "lost", "still running", "not grpc"}, func(word string) bool {
			return strings.Contains(strings.ToLower(line), word)
		}) {
			said = append(said, strings.TrimSpace(line))
		}
	}
	return said
}

// Records are those printed so far.
func (p *Tap) Records() []Record {
	p.t.Helper()
	return readRecords(p.t, p.Stdout)
}

// Wait waits for a record matching match, which `what` describes. A record is
// due within a second of its call's end; a busy machine gets more.
func (p *Tap) Wait(what string, match func(Record) bool) Record {
	p.t.Helper()
	var found Record
	p.Until("a record of "+what, 5*time.Second, func() bool {
		records := p.Records()
		i := slices.IndexFunc(records, match)
		if i >= 0 {
			found = records[i]
		}
		return i >= 0
	})
	return found
}
