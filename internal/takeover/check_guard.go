package takeover

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TryGuard has a guard say whether it would outlive what ends a container or a
// login session around us, as it would be asked at a takeover, and lets it go:
// only trying tells whether it can leave the cgroup that it is started in. It
// moves nothing but itself. server is the pid that Survey found.
func TryGuard(path string, server int) error {
	p, err := Open(path)
	if err != nil {
		return err
	}
	defer p.Close()
	// In a lock file's place, of which there may be another's.
	fd, err := unix.MemfdCreate("no lock", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make shared memory: %w", err)
	}
	none := os.NewFile(uintptr(fd), "no lock")
	defer none.Close()
	progress, err := newProgress()
	if err != nil {
		return err
	}
	defer progress.close()
	r := &relay{place: p, lock: &lock{place: p, file: none}, progress: progress}
	g, err := r.charge(context.Background(), &taken{pid: server})
	if err != nil {
		return err
	}
	g.end()
	<-g.exited
	return nil
}
