package takeover

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// linkPlace is a path of our own whose upstream is served.
func linkPlace(t *testing.T) *Place {
	t.Helper()
	dir := shortDir(t)
	upstream := filepath.Join(dir, "up.sock")
	grpcServer(t, upstream)
	p, err := OpenLink(filepath.Join(dir, "l.sock"), upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// listenAt has a socket at path, dead or alive.
func listenAt(t *testing.T, path string, alive bool) {
	t.Helper()
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false)
	if !alive {
		_ = lis.Close()
		return
	}
	t.Cleanup(func() { _ = lis.Close() })
}

// What somebody has put at a path of ours while it was not held is his: a runtime
// that was pointed there has nothing else.
func TestLinkLeavesOthers(t *testing.T) {
	for _, c := range []struct {
		name, says string
		there      func(path string)
	}{
		{"a server", "somebody serves it already", func(p string) { listenAt(t, p, true) }},
		{"a file", "a file that is no socket", func(p string) { _ = os.WriteFile(p, nil, 0o600) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := linkPlace(t)
			c.there(p.path)
			var was, now unix.Stat_t
			_ = unix.Lstat(p.path, &was)
			if _, err := p.take(t.Context(), nothing); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("taken: %v", err)
			}
			if err := unix.Lstat(p.path, &now); err != nil || now.Ino != was.Ino {
				t.Errorf("it is gone: %v, %v", now.Mode, err)
			}
		})
	}
}

// A path that is its own upstream, by whatever name, is refused: nothing is put
// where the server will want to bind.
func TestLinkToItself(t *testing.T) {
	dir := shortDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, to := range map[string]string{"other": ".", "there": at("l.sock"), "here": "there", "round": "round"} {
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, upstream := range []string{at("l.sock"), at("other/l.sock"), at("here"), at("other/here"), at("round")} {
		if _, err := OpenLink(at("l.sock"), upstream); err == nil || !strings.Contains(err.Error(), "leads back to it") {
			t.Errorf("%s: %v", upstream, err)
		}
	}
	for _, upstream := range []string{at("absent"), at("no/l.sock"), "/l.sock"} {
		if p, err := OpenLink(at("l.sock"), upstream); err != nil {
			t.Errorf("%s: %v", upstream, err)
		} else {
			p.Close()
		}
	}
}

// One who binds at the very moment when the link is put there has the path.
func TestLinkComesLate(t *testing.T) {
	p := linkPlace(t)
	listenAt(t, p.path, false)
	var was, now unix.Stat_t
	p.step = func(call string) {
		if call == "exchange" {
			p.step = nil
			_ = os.Remove(p.path)
			listenAt(t, p.path, true)
			_ = unix.Lstat(p.path, &was)
		}
	}
	if err := p.putLink(); err == nil {
		t.Error("the link is there")
	}
	if err := unix.Lstat(p.path, &now); err != nil || now.Ino != was.Ino {
		t.Errorf("its socket is gone: %v, %v", now.Mode, err)
	}
	if names, _ := os.ReadDir(filepath.Dir(p.path)); len(names) != 2 {
		t.Errorf("left: %v", names)
	}
}

// A dead socket is replaced.
func TestLinkOverDead(t *testing.T) {
	p := linkPlace(t)
	listenAt(t, p.path, false)
	held, err := p.take(t.Context(), nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer held.close()
	if r, err := p.Undo(false); r != Restored || err != nil {
		t.Errorf("undo: %v, %v", r, err)
	}
	if to, _ := os.Readlink(p.path); to != p.upstream {
		t.Errorf("it leads to %q", to)
	}
}
