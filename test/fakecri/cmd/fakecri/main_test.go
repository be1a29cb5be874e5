package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
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
	serving.Go(func() { served = run(ctx, []string{"serve", "--cri", cri, "--csi", csi}, new(strings.Builder)) })
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(csi); err == nil {
			break
		}
	}
	var out strings.Builder
	if err := run(t.Context(), []string{"kubelet", "--cri", cri, "--csi", csi, "--for", "300ms", "--polls-per-second", "50"}, &out); err != nil {
		t.Errorf("kubelet: %v", err)
	}
	if !strings.Contains(out.String(), "pod prod/web-0 runs\n") {
		t.Errorf("kubelet said:\n%s", out.String())
	}
	cancel()
	serving.Wait()
	if served != nil {
		t.Errorf("serve: %v", served)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"", "dance", "serve", "serve --cri a b", "serve --nope", "kubelet", "kubelet --cri a --polls-per-second 0"} {
		if err := run(t.Context(), strings.Fields(args), new(strings.Builder)); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v, want usage", args, err)
		}
	}
}
