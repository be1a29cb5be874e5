package takeover

// What ends a whole container or login session kills by pid namespace or by
// cgroup. The guard may share either with the server, for what then ends the
// guard ends the server too; it may not have one that the server is outside of.
// The same holds for pid 1 in the server's place: its end is the end of the
// pid namespace, with the server in it.

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
)

// LeaveCgroup moves this process to the root of each cgroup hierarchy that it
// can reach, out of a container through pid 1's root directory. Its error says
// what could not be left and why; whether that matters, outlives says.
func LeaveCgroup() error {
	f, err := thisProcess()
	if err != nil {
		return err
	}
	left := make(chan error, 1)
	go func() {
		// Never unlocked: the thread is in another cgroup namespace from here
		// on, and ends with this function.
		runtime.LockOSThread()
		left <- errors.Join(f.enterCgroupNamespace(1), f.leave())
	}()
	return <-left
}

// outlives says what could end this process and leave the server alive; nil:
// nothing of the kind. server is the pid that SO_PEERCRED names for its
// listener.
func outlives(server int) error {
	if server == 0 {
		return fmt.Errorf("the server is outside of our pid namespace: the end of that, a container's, would kill relay and guard together and leave the server alive; "+
			"run grpc-tap in the host's pid namespace (hostPID: true; docker --pid host), or %s", orUnguarded)
	}
	f, err := thisProcess()
	if err != nil {
		return err
	}
	return f.outlives(server)
}

const orUnguarded = "say --unguarded and run `grpc-tap restore` yourself if both processes are killed"

// fate is a process as seen in a procfs.
type fate struct {
	proc procDir
	pid  int
	join func(cgroup string, pid int) error // nil: by writing to cgroup.procs
}

// thisProcess fails where /proc shows another pid namespace than ours: our pid
// and the server's would name strangers in it.
func thisProcess() (fate, error) {
	self, err := os.Readlink("/proc/self")
	if err != nil || self != strconv.Itoa(os.Getpid()) {
		return fate{}, errors.New("/proc does not show our own pid namespace; mount it: mount -t proc proc /proc")
	}
	return fate{proc: "/proc", pid: os.Getpid()}, nil
}

func (f fate) outlives(server int) error {
	ours, err := f.cgroups(f.pid)
	if err != nil {
		return err
	}
	theirs, err := f.cgroups(server)
	if err != nil {
		return fmt.Errorf("the server: %w; if it was restarted, try again", err)
	}
	first, _ := f.cgroups(1)
	for _, h := range slices.Sorted(maps.Keys(ours)) {
		at, known := theirs[h]
		one, alike := first[h]
		if known && ours[h].covers(at) || alike && ours[h].covers(one) {
			continue
		}
		return fmt.Errorf("%s: our cgroup %s is not above the server's (pid %d), %s: the end of ours, a container's or a login session's, "+
			"would kill relay and guard together and leave the server alive; run grpc-tap as root on the host, or in a privileged container with "+
			"the host's pid namespace (privileged: true and hostPID: true; docker --privileged --pid host), or %s", title(h), ours[h], server, at, orUnguarded)
	}
	return nil
}

// leave does what LeaveCgroup promises.
func (f fate) leave() error {
	ours, err := f.cgroups(f.pid)
	if err != nil {
		return err
	}
	mounts := f.cgroupMounts()
	var errs []error
	for _, h := range slices.Sorted(maps.Keys(ours)) {
		if err := f.leaveHierarchy(h, ours[h], mounts); err != nil {
			errs = append(errs, fmt.Errorf("%s: leave cgroup %s: %w", title(h), ours[h], err))
		}
	}
	return errors.Join(errs...)
}
