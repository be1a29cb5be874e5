package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/discover"
)

// verdicts are tested on facts made up here: nothing is looked at. Each wanted
// line is a level and what the text holds.
func checkFindings(t *testing.T, name string, got []finding, want ...string) {
	t.Helper()
	var lines []string
	for _, f := range got {
		lines = append(lines, fmt.Sprintf("%v %s", f.level, oneLine(f.text)))
	}
	good := len(lines) == len(want)
	for i := 0; good && i < len(want); i++ {
		level, text, _ := strings.Cut(want[i], " ")
		good = strings.HasPrefix(lines[i], level+" ") && strings.Contains(lines[i], text)
	}
	if !good {
		t.Errorf("%s:\n\t%s\nwanted\n\t%s", name, strings.Join(lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestDoctorPrints(t *testing.T) {
	all := []section{
		{about: "a", findings: []finding{fine.say("good"), noted.say("two\nlines")}},
		{"/s", "CRI \x1b[2J", []finding{failed.say("bad \x1b[2J <x>"), warned.say("so so")}},
	}
	var text, lines strings.Builder
	if err := errors.Join(writeText(&text, all), writeJSON(&lines, all)); err != nil {
		t.Fatal(err)
	}
	const wantText = `a
  ok    good
  note  two; lines
/s: CRI \x1b[2J
  FAIL  bad \x1b[2J <x>
  WARN  so so
1 thing is in the way of grpc-tap attach, 1 warning
`
	const wantLines = `{"level":"ok","about":"a","text":"good"}
{"level":"note","about":"a","text":"two; lines"}
{"level":"fail","about":"/s","text":"bad \u001b[2J <x>"}
{"level":"warn","about":"/s","text":"so so"}
`
	if text.String() != wantText {
		t.Errorf("%s", text.String())
	}
	if lines.String() != wantLines {
		t.Errorf("%s", lines.String())
	}
	for n, want := range map[int]string{0: "nothing is in the way of grpc-tap attach", 2: "2 things are in the way of grpc-tap attach"} {
		if got := verdict([]section{{findings: slices.Repeat([]finding{failed.say("")}, n)}}); got != want {
			t.Error(got)
		}
	}
}

// On a fake node, from the facts to the verdict. This machine's own kernel and
// mounts are left out of it.
func TestDoctorOnAFakeNode(t *testing.T) {
	root := discoverable(t)
	var tried []string
	guards := make(chan string, 8)
	d := doctor{node: discover.Config{Root: root}, stateDir: filepath.Join(t.TempDir(), "state")}
	d.tryGuard = func(path string, server int) error {
		guards <- path
		if server != os.Getpid() {
			return fmt.Errorf("asked for pid %d", server)
		}
		return nil
	}
	found := d.examine(context.Background())
	close(guards)
	for path := range guards {
		tried = append(tried, path)
	}
	about := func(name string) []finding {
		i := slices.IndexFunc(found, func(s section) bool { return s.about == name })
		if i < 0 {
			t.Errorf("nothing is said of %s", name)
			return nil
		}
		return found[i].findings
	}
	const fit, alone = "ok it can be taken over", "ok nobody is connected to it now"
	cri := filepath.Join(root, "run/containerd/containerd.sock")
	checkFindings(t, "runtime", about(cri), fit, alone)
	checkFindings(t, "driver", about(filepath.Join(root, "var/lib/kubelet/plugins/nfs/csi.sock")), fit, alone)
	checkFindings(t, "gone", about(filepath.Join(root, "var/lib/kubelet/plugins/gone/csi.sock")), "WARN nobody serves it")
	checkFindings(t, "guard", about("guard"), "ok tried, for 3 sockets")
	checkFindings(t, "state", about("switches and leftovers")[:3], "ok kill switch is off", "ok no relay died", "ok nothing of a grpc-tap")
	if len(tried) != 3 || !slices.Contains(tried, cri) {
		t.Errorf("guards were tried for %v", tried)
	}
}

func TestDoctorResets(t *testing.T) {
	dir := t.TempDir()
	deaths := filepath.Join(dir, "deaths")
	now := time.Now().UTC().Format(time.RFC3339Nano)
	err := errors.Join(os.WriteFile(filepath.Join(dir, "disable"), nil, 0o600),
		os.WriteFile(deaths, []byte(strings.Repeat(now+" pid 5 on /x\n", 3)), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	d := doctor{node: discover.Config{Root: t.TempDir()}, stateDir: dir}
	if s := d.gatherState(); s.tripped == nil || s.disabled == nil || len(s.deaths) != 3 || s.last() == "not to be read" {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(deaths); err != nil {
		t.Error("it changed something without being asked to:", err)
	}
	d.reset = true
	if s := d.gatherState(); s.tripped != nil || s.forgotten != 3 || s.resetErr != nil || s.disabled == nil {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(deaths); !errors.Is(err, os.ErrNotExist) {
		t.Error("the deaths are not forgotten:", err)
	}
}
