package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Both commands together, as a person runs them in two terminals.
func TestRun(t *testing.T) {
	dir, err := os.MkdirTemp("", "fakecri")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cri, csi := filepath.Join(dir, "cri.sock"), filepath.Join(dir, "csi.sock")

	ctx, cancel := context.WithCancel(t.Context())
	var served error
	var serving sync.WaitGroup
	ready := make(chan struct{})
	serving.Go(func() {
		said := awaiting{text: "CSI driver", then: sync.OnceFunc(func() { close(ready) })}
		served = run(ctx, []string{"serve", "--cri", cri, "--csi", csi}, &said)
	})
	<-ready
	// Until the first pod runs, as a person would press Ctrl-C then; and once more until its time is up.
	playing, stop := context.WithCancel(t.Context())
	out := awaiting{text: "pod prod/web-0 runs\n", then: stop}
	if err := run(playing, []string{"kubelet", "--cri", cri, "--csi", csi, "--for", "1m", "--polls-per-second", "50"}, &out); err != nil {
		t.Errorf("kubelet: %v", err)
	}
	if playing.Err() == nil {
		t.Errorf("kubelet said:\n%s", out.said.String())
	}
	for range 5 {
		if err := run(t.Context(), []string{"kubelet", "--cri", cri, "--csi", csi, "--for", "20ms", "--polls-per-second", "50"}, new(awaiting)); err != nil {
			t.Errorf("kubelet, its time up: %v", err)
		}
	}
	cancel()
	serving.Wait()
	if served != nil {
		t.Errorf("serve: %v", served)
	}
}

// awaiting collects what is said, and calls then once text is among it.
type awaiting struct {
	mu   sync.Mutex
	said strings.Builder
	text string
	then func()
}

func (a *awaiting) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.said.Write(p)
	if a.then != nil && strings.Contains(a.said.String(), a.text) {
		a.then()
	}
	return len(p), nil
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"", "dance", "serve", "serve --cri a b", "serve --nope", "kubelet", "kubelet --cri a --polls-per-second 0"} {
		if err := run(t.Context(), strings.Fields(args), new(strings.Builder)); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, want usage", args, err)
		}
	}
}
