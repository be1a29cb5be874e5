package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

// csiSanity is the release of csi-sanity that is run.
const csiSanity = "v5.6.0"

// TestCSISanity runs the conformance tests of CSI drivers, first straight at a
// driver, then through grpc-tap: each test has the result that it has
// directly, none fails, and the records tell every call that the driver has
// answered, and how.
func TestCSISanity(t *testing.T) {
	var direct, through map[string]string
	t.Run("direct", func(t *testing.T) {
		direct = sanity(t, newCSIDriver(t), "")
	})
	t.Run("through", func(t *testing.T) {
		d := newCSIDriver(t)
		tap := Proxy(t, d.Socket)
		through = sanity(t, d, tap.Listen)
		tap.Stop()
		if mounts := d.Mounts(); len(mounts) > 0 {
			t.Errorf("still mounted: %q", mounts)
		}
		if tap.Tells {
			d.checkAllTold(tap)
		}
	})
	if len(direct) == 0 {
		t.Skip("csi-sanity was skipped")
	}
	t.Logf("csi-sanity %s directly: %s", csiSanity, sanityCounts(direct))
	t.Logf("csi-sanity %s through:  %s", csiSanity, sanityCounts(through))
	if !maps.Equal(direct, through) {
		t.Errorf("results differ: directly %v, through %v", direct, through)
	}
	for spec, state := range direct {
		if state == "failed" {
			t.Errorf("failed: %s", spec)
		}
	}
}

// sanity runs csi-sanity in the driver's lab and returns what became of each
// test. Through is the socket to dial instead of the driver's.
func sanity(t *testing.T, d *csiDriver, through string) map[string]string {
	t.Helper()
	if through == "" {
		through = d.Socket
	}
	report := d.Path("report.json")
	p := d.Start("csi-sanity", []string{"TMPDIR=" + d.Dir}, sanityProgram(t), "--csi.endpoint", "unix:"+through,
		"--csi.mountdir", d.Path("mount"), "--csi.stagingdir", d.Path("staging"),
		"--ginkgo.seed", "1", "--ginkgo.no-color", "--ginkgo.json-report", report)
	select {
	case <-p.Done():
	case <-time.After(2 * time.Minute):
		t.Errorf("csi-sanity takes more than two minutes")
		p.Kill()
	}
	printed, _ := os.ReadFile(p.Stdout)
	specs := readSpecs(t, report, printed)
	if sanityCount(specs, "passed") == 0 {
		t.Error("csi-sanity passed nothing")
	}
	return specs
}

// readSpecs reads what became of each test from Ginkgo's report.
func readSpecs(t *testing.T, report string, printed []byte) map[string]string {
	t.Helper()
	var suites []struct {
		SpecReports []struct {
			ContainerHierarchyTexts           []string
			LeafNodeType, LeafNodeText, State string
			Failure                           struct{ Message string }
		}
	}
	data, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(data, &suites)
	}
	if err != nil {
		t.Fatalf("there is no report: %v; it printed:\n%s", err, printed[max(0, len(printed)-4096):])
	}
	specs := map[string]string{}
	for _, suite := range suites {
		for _, s := range suite.SpecReports {
			if s.LeafNodeType != "It" {
				continue
			}
			name := strings.Join(append(s.ContainerHierarchyTexts, s.LeafNodeText), " ")
			specs[name] = s.State
			if s.State != "passed" && s.State != "skipped" {
				t.Logf("%s: %s: %.300s", s.State, name, s.Failure.Message)
			}
		}
	}
	return specs
}

func sanityCount(specs map[string]string, state string) (n int) {
	for _, s := range specs {
		if s == state {
			n++
		}
	}
	return n
}

// sanityCounts is csi-sanity's result line.
func sanityCounts(specs map[string]string) string {
	return fmt.Sprintf("%d Passed | %d Failed | %d Pending | %d Skipped", sanityCount(specs, "passed"),
		sanityCount(specs, "failed"), sanityCount(specs, "pending"), sanityCount(specs, "skipped"))
}

// checkAllTold holds the records against the driver's log, call by call.
func (d *csiDriver) checkAllTold(tap *Tap) {
	t := d.t
	t.Helper()
	if said := tap.Complained(); len(said) > 0 {
		t.Errorf("grpc-tap did not read all of it:\n%s", strings.Join(said, "\n"))
	}
	answered, told := map[string]int{}, map[string]int{}
	for _, a := range d.Answers() {
		answered[fmt.Sprint(a.Method, " ", a.Code)]++
	}
	records := tap.Records()
	for _, r := range records {
		told[fmt.Sprint(r.Method, " ", codeOf(t, r))]++
		if r.State != "done" || r.DurationMS <= 0 {
			t.Errorf("a call whose end was not seen: %s", r)
		}
	}
	for _, call := range slices.Sorted(maps.Keys(told)) {
		t.Logf("%6d %s", told[call], call)
	}
	t.Logf("%6d calls recorded", len(records))
	if !maps.Equal(answered, told) {
		t.Errorf("calls answered: %v\ncalls told:     %v", answered, told)
	}
}

// codeOf is a record's code as grpc-go has it.
func codeOf(t testing.TB, r Record) (code codes.Code) {
	t.Helper()
	if err := code.UnmarshalJSON([]byte(strconv.Quote(r.Code))); err != nil {
		t.Errorf("%v: %s", err, r)
	}
	return code
}

// sanityProgram is csi-sanity, built into .cache at the first run.
func sanityProgram(t testing.TB) string {
	t.Helper()
	cache, err := filepath.Abs("../../.cache")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "csi-sanity-"+csiSanity)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(cache, "csi-sanity-") // moved when whole: others may be at it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "install", "-trimpath", "-ldflags=-s -w", "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@"+csiSanity)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-p=2", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	if err := os.Rename(filepath.Join(dir, "csi-sanity"), path); err != nil {
		t.Fatal(err)
	}
	return path
}
