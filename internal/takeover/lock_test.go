package takeover

import (
	"os"
	"testing"
)

// Nobody is sent to a door by a lock file that another user has put there.
func TestAnothersDoor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to give files away")
	}
	o := newOld(t)
	if pid, door := o.place.Holder(); pid != os.Getpid() || door != "/old/door" {
		t.Errorf("pid %d, door %q", pid, door)
	}
	if err := o.lock.file.Chown(12345, 12345); err != nil {
		t.Fatal(err)
	}
	if pid, door := o.place.Holder(); pid != os.Getpid() || door != "" {
		t.Errorf("another user's: pid %d, door %q", pid, door)
	}
	if c, err := o.place.standing(); c != nil || err != nil {
		t.Errorf("%v, %v", c, err)
	}
}
