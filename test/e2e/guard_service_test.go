package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestGuardServiceApart has a guard's service and two relays: the one in its own cgroup,
// which would be ended together with it, is refused, and leaves its path alone; the one in another
// is guarded.
func TestGuardServiceApart(t *testing.T) {
	in := func(name string) string {
		cgroup := filepath.Join(hierarchy(t), fmt.Sprintf("grpc-tap-test-%d-%s", os.Getpid(), name))
		if err := os.Mkdir(cgroup, 0o755); err != nil {
			t.Skip("needs root: ", err)
		}
		t.Cleanup(func() { eventually(t, "the cgroup is empty", func() bool { return os.Remove(cgroup) == nil }) })
		return cgroup
	}
	one, two := in("one"), in("two")
	l := lab.New(t)
	start := func(name, cgroup string, args ...string) *lab.Process {
		// Where the machine is a container itself, its own cgroup is what all have as a root.
		return l.Start(name, nil, append([]string{"unshare", "--cgroup", "sh", "-c", `echo $$ >` + cgroup + `/cgroup.procs; exec "$@"`, "sh", binary}, args...)...)
	}
	socket := l.Path("guard/sock")
	guard := start("guard", one, "guard", "--listen", socket)
	guard.Until("it has a socket", eventuallyTime, func() bool { _, err := os.Stat(socket); return err == nil })
	defer guard.Stop(eventuallyTime)

	n := newFakeNode(t)
	was := lookAt(t, n.cri)
	relay := func(name, cgroup string) *standing {
		s := &standing{path: n.cri, state: l.Path("state"), t: t, lab: l}
		s.Process = start(name, cgroup, "relay", "--take", n.cri, "--mirror", l.Path("mirror", name), "--state-dir", s.state, "--guard", socket)
		s.Until("it stands", eventuallyTime, func() bool { return strings.Contains(lockText(n.cri), "mirror/"+name) })
		return s
	}
	bad := relay("bad", one)
	tapped := bad.visitor()
	saysWhy := func() bool {
		return strings.Contains(contentOf(t, bad.Stderr), "would be ended together; run them as two services")
	}
	bad.Until("it says that it is refused", eventuallyTime, saysWhy)
	if now := lookAt(t, n.cri); now.Inode != was.Inode {
		t.Errorf("it took its path without a guard: %+v, %+v", was, now)
	}
	tapped.leave()
	if err := bad.Stop(eventuallyTime); err != nil {
		t.Error(err)
	}

	good := relay("good", two)
	tapped = good.tap()
	good.Kill()
	awaitBack(t, n.cri, was.Inode)
	tapped.fails("died")
	answers(t, n.cri)
}

func lockText(path string) string {
	b, _ := os.ReadFile(lockBeside(path))
	return string(b)
}
