package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine is where and with what a run was made.
type machine struct {
	Date             string
	Cores            int
	CPU, Kernel      string
	Go, GRPC, Binary string
	Load             string // of the minute before the run
}

func lookAround(ctx context.Context, binary string) machine {
	m := machine{Date: time.Now().UTC().Format(time.DateOnly), Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: "unknown"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(info), "model name")
		line, _, _ := strings.Cut(rest, "\n")
		if name := strings.Trim(line, ":\t "); name != "" {
			m.CPU = name
		}
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(load), " ")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "google.golang.org/grpc" {
				m.GRPC = d.Version
			}
		}
	}
	if out, err := exec.CommandContext(ctx, binary, "version").Output(); err == nil {
		m.Binary, _, _ = strings.Cut(string(out), "\n")
	}
	return m
}
