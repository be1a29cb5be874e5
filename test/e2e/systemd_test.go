package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// exposure is the most that `systemd-analyze security` may find, in tenths.
var exposure = map[string]string{
	guardUnit: "16", relayUnit: "20", swapUnit: "20", tapUnit: "16",
}

// installed are the units in a directory of the test's own, with the binary under test for
// the one that they name, which need not be installed here.
func installed(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	units, _ := filepath.Glob(filepath.Join(unitsDir, "*.service"))
	for _, file := range units {
		text := strings.ReplaceAll(contentOf(t, file), "/usr/local/bin/grpc-tap", binary)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// analyze runs systemd-analyze, which needs no systemd that runs.
func analyze(t *testing.T, units string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("systemd-analyze", append([]string{"--no-pager"}, args...)...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+units+":") // and where the others are
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestUnitsVerify holds that systemd has nothing to say against the units.
func TestUnitsVerify(t *testing.T) {
	out, err := analyze(t, installed(t), "verify", "--man=no", guardUnit, relayUnit, tapUnit, swapUnit, swapTapUnit)
	if err != nil || out != "" {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestUnitsSecurity holds how little the services are exposed.
func TestUnitsSecurity(t *testing.T) {
	units := installed(t)
	for unit, most := range exposure {
		out, err := analyze(t, units, "security", "--offline=yes", "--threshold="+most, unit)
		if err != nil {
			t.Errorf("%s is over %s tenths: %v\n%s", unit, most, err, out)
		}
	}
}

// TestUnitsFlags holds that the binary takes every command line of the units.
func TestUnitsFlags(t *testing.T) {
	command := regexp.MustCompile(`(?m)^Exec\w+=/usr/local/bin/grpc-tap (.*)$`)
	units, _ := filepath.Glob(filepath.Join(unitsDir, "*.service"))
	var seen int
	for _, file := range units {
		for _, m := range command.FindAllStringSubmatch(contentOf(t, file), -1) {
			seen++
			line := strings.NewReplacer("%f", "/run/x.sock", "%i", "run-x.sock", " $GRPC_TAP_RELAY", "", " $GRPC_TAP_TAP", "").Replace(m[1])
			// --help is what is done if all the rest is understood.
			if out, err := lab.New(t).Run(append([]string{binary}, append(strings.Fields(line), "--help")...)...); err != nil || !strings.Contains(out, "Usage:") {
				t.Errorf("%s: grpc-tap %s: %v\n%s", filepath.Base(file), line, err, out)
			}
		}
	}
	if seen < 6 {
		t.Errorf("%d command lines were found", seen)
	}
}

// TestUnitsTmpfiles holds that the directories and the links are made, and that what a
// relay has put in a link's place is left alone.
func TestUnitsTmpfiles(t *testing.T) {
	root := t.TempDir()
	create := func() {
		t.Helper()
		if out, err := exec.Command("systemd-tmpfiles", "--create", "--root="+root, unitsTmpfiles(t)).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}
	}
	create()
	for dir, mode := range map[string]os.FileMode{"": 0o755, "guard": 0o700, "mirror": 0o700, "run/containerd": 0o755, "run/crio": 0o755} {
		if st, err := os.Stat(filepath.Join(root, "run/grpc-tap", dir)); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v", dir, st, err)
		}
	}
	for _, runtime := range []string{"/run/containerd/containerd.sock", "/run/crio/crio.sock"} {
		at := filepath.Join(root, "run/grpc-tap", runtime)
		if to, err := os.Readlink(at); err != nil || to != runtime {
			t.Errorf("%s leads to %q, %v", at, to, err)
		}
		_ = os.Remove(at)
		if err := os.WriteFile(at, []byte("a relay's"), 0o600); err != nil {
			t.Fatal(err)
		}
		create()
		if is := contentOf(t, at); is != "a relay's" {
			t.Errorf("%s was replaced: %q", at, is)
		}
	}
}

func contentOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
