package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/discover"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
)

// One line for all that were moved, one for each reason why others were not;
// nothing of those that ended by themselves or with the session.
func TestOutcomes(t *testing.T) {
	kubelet := discover.Process{PID: 7, Exe: "/usr/bin/kubelet"}
	probe, shell := discover.Process{PID: 8, Exe: "/livenessprobe"}, discover.Process{PID: 9}
	var all []discover.Connection
	var errs []error
	add := func(err error, clients ...discover.Process) {
		all, errs = append(all, discover.Connection{Clients: clients}), append(errs, err)
	}
	busy := errors.New("it was busy")
	add(nil, kubelet)
	add(busy, probe)
	add(nil, shell)
	add(nil, kubelet)
	add(takeover.ErrGone, kubelet)
	add(fmt.Errorf("wait: %w", context.Canceled), kubelet)
	add(context.DeadlineExceeded, kubelet)
	add(errors.New("it is a sidecar"), probe, shell)
	add(errors.New("it was busy"), kubelet)
	add(errors.New("it was busy"))
	want := []string{
		"3 connections moved, and seen from the next call on: a process (pid 9), kubelet (pid 7) ×2",
		"1 connection not moved, and not seen: livenessprobe (pid 8) with a process (pid 9): it is a sidecar",
		"3 connections not moved, and not seen: kubelet (pid 7), livenessprobe (pid 8), somebody unknown: it was busy",
	}
	if got := outcomes(all, errs); !slices.Equal(got, want) {
		t.Errorf("it says\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := outcomes(nil, nil); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
}

// A runtime that starts a process holds each connection twice for a moment; who shares
// one for good is told after a second.
func TestAtRest(t *testing.T) {
	for _, forks := range []int{0, 1, 5, 1000} {
		synctest.Test(t, func(t *testing.T) {
			began, looks := time.Now(), 0
			older, _ := atRest(t.Context(), func() ([]discover.Connection, error) {
				c := discover.Connection{Servers: []discover.Process{{PID: 7}, {PID: 8}}}
				if looks++; looks > forks {
					c.Servers = c.Servers[:1]
				}
				return []discover.Connection{c}, nil
			})
			if shared := len(older[0].Servers) > 1; shared != (forks == 1000) || time.Since(began) > time.Second {
				t.Errorf("where it forks %d times: after %v it is shared: %t", forks, time.Since(began), shared)
			}
		})
	}
}
