package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/grpc-tap/grpc-tap/internal/config"
)

// watcher runs an agent anew whenever its file of settings has changed.
type watcher struct {
	file           string
	given          *pflag.FlagSet // on the command line
	stdout, stderr io.Writer
	content        []byte // of the file, when it was last read
}

// load reads the settings; those on the command line win.
func (w *watcher) load() (*agent, error) {
	a := &agent{}
	flags := a.flags()
	var errs []error
	w.given.Visit(func(f *pflag.Flag) {
		if to := flags.Lookup(f.Name); to != nil {
			errs = append(errs, copyFlag(to, f))
		}
	})
	if w.file != "" {
		content, err := os.ReadFile(w.file)
		if err != nil {
			return nil, fmt.Errorf("read the settings: %w", err)
		}
		w.content = content
		errs = append(errs, config.Apply(flags, w.file, content))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return a, a.check()
}

func copyFlag(to, from *pflag.Flag) error {
	to.Changed = true
	if list, ok := from.Value.(pflag.SliceValue); ok {
		return to.Value.(pflag.SliceValue).Replace(list.GetSlice())
	}
	return to.Value.Set(from.Value.String())
}

// reloadEvery is how often the file of settings is looked at. A ConfigMap's is
// replaced as a whole, by a link.
const reloadEvery = 2 * time.Second

// run is the agent's life, with the settings of the time. Settings that can't be opened
// are no end of it, but the first.
func (w *watcher) run(ctx context.Context, a *agent) error {
	var refused error
	for good := (*agent)(nil); ; {
		round, stop := context.WithCancel(ctx)
		n := newAgentNode(a, w.stdout, w.stderr)
		n.pulse.refuse(refused)
		err := n.open(round, stop)
		switch {
		case err == nil:
			good = a
			a, err = w.round(round, stop, n)
			refused = nil
		case good != nil:
			refused = fmt.Errorf("what %s says now can't be had: %w; going on with what it said before", w.file, err)
			fmt.Fprintf(w.stderr, "grpc-tap: %v\n", refused)
			a, good, err = good, nil, nil
		}
		stop()
		if err != nil || a == nil {
			return err
		}
	}
}

// round is the agent's life until its settings change; nil: it has ended.
func (w *watcher) round(ctx context.Context, stop func(), n *agentNode) (next *agent, err error) {
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		if next = w.await(ctx, n); next != nil {
			fmt.Fprintf(w.stderr, "grpc-tap: %s has changed: going on with what it says now\n", w.file)
			stop()
		}
	}()
	err = n.run(ctx)
	stop()
	<-changed
	if next != nil {
		err = nil
	}
	return next, err
}

// await waits until the file holds other settings that are right; nil: ctx is done.
func (w *watcher) await(ctx context.Context, n *agentNode) *agent {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if w.file == "" {
			continue
		}
		content, err := os.ReadFile(w.file)
		if err != nil || string(content) == string(w.content) {
			continue // it may be replaced right now
		}
		a, err := w.load()
		if err == nil {
			return a
		}
		err = fmt.Errorf("what %s says now is not taken: %w", w.file, err)
		fmt.Fprintf(w.stderr, "grpc-tap: %v\n", err)
		n.pulse.refuse(err)
	}
}
