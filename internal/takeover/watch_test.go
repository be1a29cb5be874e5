package takeover

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func event(mask uint32, name string) []byte {
	b := make([]byte, unix.SizeofInotifyEvent)
	binary.NativeEndian.PutUint32(b[4:], mask)
	padded := append([]byte(name), make([]byte, 16-len(name)%16)...)
	if name == "" {
		padded = nil
	}
	binary.NativeEndian.PutUint32(b[12:], uint32(len(padded)))
	return append(b, padded...)
}

func TestConcerns(t *testing.T) {
	other := event(unix.IN_CREATE, "other")
	for name, c := range map[string]struct {
		events []byte
		want   bool
	}{
		"none":             {nil, false},
		"others":           {append(other, other...), false},
		"ours, last":       {append(other, event(unix.IN_ATTRIB, "s.sock")...), true},
		"a longer name":    {event(unix.IN_CREATE, "s.sock.ttrpc"), false},
		"the directory":    {event(unix.IN_DELETE_SELF, ""), true},
		"events were lost": {event(unix.IN_Q_OVERFLOW, ""), true},
		"cut off":          {other[:20], true},
	} {
		if got := concerns(c.events, "s.sock"); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWatchName(t *testing.T) {
	p := place(t, filepath.Join(shortDir(t), "s.sock"))
	w, err := p.watchName()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.name("s.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-w.C
	w.close()
}

func TestWatchProcess(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := watchProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.end():
		t.Error("ended before its end")
	default:
	}
	if err := w.kill(); err != nil {
		t.Fatal(err)
	}
	<-w.end()
	w.close()
	_ = cmd.Wait()
}
