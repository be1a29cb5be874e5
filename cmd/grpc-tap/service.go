package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// notify tells a service manager that starts us that others may go on, and which
// process the service is: sd_notify(3). Without one it does nothing.
func notify(log *slog.Logger, status string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		defer c.Close()
		_, err = fmt.Fprintf(c, "READY=1\nMAINPID=%d\nSTATUS=%s\n", os.Getpid(), status)
	}
	if err != nil {
		log.Warn("the service manager can't be told that we are ready", "cause", err)
	}
}

// succeedOnHUP starts this command again at each SIGHUP, until stop. The new
// process takes our place: a service's reload is its upgrade.
func succeedOnHUP(log *slog.Logger) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	over := make(chan struct{})
	go func() {
		for {
			select {
			case <-hup:
				if err := succeed(); err != nil {
					log.Error("start a relay that takes our place", "cause", err)
				}
			case <-over:
				return
			}
		}
	}()
	return func() { close(over); signal.Stop(hup) }
}

// succeed starts the file that we were started from, as it is now, as we were
// started. It is to be the child of who started us, which hears of its death then;
// else we would, who may have connections to relay for months yet.
func succeed() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	start := func(as *syscall.SysProcAttr) error {
		cmd := exec.Command(strings.TrimSuffix(exe, " (deleted)"), os.Args[1:]...)
		cmd.Stderr, cmd.SysProcAttr = os.Stderr, as
		err := cmd.Start()
		if err == nil {
			go func() { _ = cmd.Wait() }() // where it is ours; it outlives us, or has said why not
		}
		return err
	}
	err = start(&syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT})
	if errors.Is(err, unix.EINVAL) { // we are a pid namespace's first process, and have no parent
		err = start(nil)
	}
	return err
}
