//go:build critest

package e2e

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// skip are tests that no containerd passes here, so that they say nothing
// about us: the one wants an image with a given digest, which no stand-in
// has; the other wants the words of another shell than busybox's.
const skip = "image with digest should be pulled|MaskedPaths"

// TestCritest runs Kubernetes' conformance tests of container runtimes straight
// at containerd, through grpc-tap proxy, and at containerd's own socket while
// grpc-tap attaches to it and detaches all the while: what passed must pass.
// test/lab/critest.sh builds what it needs and runs it.
func TestCritest(t *testing.T) {
	var direct outcome
	t.Run("direct", func(t *testing.T) {
		direct = critest(t, func(r *lab.Runtime) string { return r.Socket })
		if len(direct.specs) == 0 {
			t.Fatal("critest ran no tests directly")
		}
	})
	t.Run("through", func(t *testing.T) {
		var tap *Tap
		through := critest(t, func(r *lab.Runtime) string {
			tap = Proxy(t, r.Socket)
			return tap.Listen
		})
		tap.Stop()
		if tap.Tells {
			checkTold(t, tap)
		}
		sameOutcome(t, direct, through)
	})
	t.Run("attached and detached", func(t *testing.T) {
		var cycles attachCycles
		through := critest(t, func(r *lab.Runtime) string {
			cycles.begin(t, r)
			return r.Socket
		})
		cycles.end(t)
		sameOutcome(t, direct, through)
	})
}

func sameOutcome(t *testing.T, direct, through outcome) {
	t.Helper()
	t.Logf("critest directly: %s", direct.line)
	t.Logf("critest so:       %s", through.line)
	for _, spec := range slices.Sorted(maps.Keys(direct.specs)) {
		if was, is := direct.specs[spec], through.specs[spec]; was != is {
			t.Errorf("%s directly, %s through: %s", was, is, spec)
		}
	}
	if was, is := direct.counts(), through.counts(); was != is {
		t.Errorf("results differ: directly %s, through %s", was, is)
	}
}

// attachCycles attaches to a runtime's socket for a second, again and again.
type attachCycles struct {
	stop, done chan struct{}
	n          int
	calls      int // recorded
	err        error
}

func (c *attachCycles) begin(t *testing.T, r *lab.Runtime) {
	notSocat(t, "attaches to nothing")
	c.stop, c.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(c.done)
		for c.err == nil {
			select {
			case <-c.stop:
				return
			default:
			}
			var out string
			out, c.err = r.Run(binary, "attach", r.Socket, "--for", "1s", "-o", "json", "--state-dir", r.Path("attach-state"))
			c.n++
			c.calls += strings.Count(out, `{"start":`)
		}
	}()
}

func (c *attachCycles) end(t *testing.T) {
	close(c.stop)
	<-c.done
	if c.err != nil {
		t.Errorf("attach, cycle %d: %v", c.n, c.err)
	}
	if c.calls == 0 {
		t.Error("no call was recorded")
	}
	t.Logf("attached and detached %d times, %d calls recorded", c.n, c.calls)
}

// checkTold holds that nothing of the run went past grpc-tap unread, and says
// what was told.
func checkTold(t *testing.T, tap *Tap) {
	if said := tap.Complained(); len(said) > 0 {
		t.Errorf("grpc-tap did not read all of it:\n%s", strings.Join(said, "\n"))
	}
	records := tap.Records()
	calls := byMethod(records)
	for _, method := range slices.Sorted(maps.Keys(calls)) {
		t.Logf("%6d %s", calls[method], method)
	}
	t.Logf("%6d calls recorded", len(records))
	for _, method := range []string{"RunPodSandbox", "CreateContainer", "StartContainer", "PullImage", "RemovePodSandbox"} {
		if calls[method] == 0 {
			t.Errorf("no %s among the records", method)
		}
	}
	for _, r := range records {
		// critest's own connections end with it, and no call may be open then.
		if r.State != "done" || r.Code == "" {
			t.Errorf("a call whose end was not seen: %s", r)
		}
	}
}

// outcome is what critest says of a run.
type outcome struct {
	line  string            // "SUCCESS! -- 100 Passed | 0 Failed | …"
	specs map[string]string // test → passed, failed, skipped
}

// counts is the result line without the time it took.
func (o outcome) counts() string { return regexp.MustCompile(`[0-9]+ Passed.*`).FindString(o.line) }

// critest runs critest in a lab of its own, at the socket that at returns.
func critest(t *testing.T, at func(*lab.Runtime) string) outcome {
	t.Helper()
	program := os.Getenv("CRITEST")
	if program == "" {
		t.Fatal("CRITEST does not name the critest to run; run test/lab/critest.sh")
	}
	l := lab.New(t)
	registry := l.Registry()
	for _, img := range standIns(t) {
		registry.Push(t, img)
	}
	endpoint := "unix://" + at(l.Containerd(lab.Options{Mirror: registry.Address}))
	report := l.Path("report.json")
	if err := os.Mkdir(l.Path("tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := l.Start("critest", []string{"TMPDIR=" + l.Path("tmp")}, program,
		"-runtime-endpoint", endpoint, "-image-endpoint", endpoint, "-ginkgo.skip", skip,
		"-ginkgo.seed", "1", "-ginkgo.no-color", "-ginkgo.json-report", report)
	select {
	case <-p.Done():
	case <-time.After(6 * time.Minute):
		t.Errorf("critest takes more than 6 minutes")
		p.Stop(10 * time.Second)
	}
	return readOutcome(t, p.Stdout, report)
}

func readOutcome(t *testing.T, stdout, report string) outcome {
	t.Helper()
	printed, err := os.ReadFile(stdout)
	if err != nil {
		t.Fatal(err)
	}
	o := outcome{specs: readSpecs(t, report, printed)}
	o.line = regexp.MustCompile(`(?m)^Ran .*\n.*(Passed|Failed).*$`).FindString(string(printed))
	o.line = strings.ReplaceAll(o.line, "\n", ": ")
	return o
}
