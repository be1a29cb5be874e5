// Command bench measures what it costs to stand on a Unix socket between a gRPC client and its server: nothing (direct), the
// least that a Go relay can be, a proxy that ends gRPC and starts it anew (grpc-go with a raw codec), socat, and grpc-tap with
// decoding, payloads, printing and span export on. `make bench` runs it, and it writes docs/benchmarks.md and its plot.
//
// The rules:
//
//   - One run holds all of them, each a process of its own, and takes them in turns: A B C D E A B C D E. What is said of one
//     beside another comes from the same round. What is told is the median of the rounds.
//   - After each turn it waits until the processes in between are at rest, and what they do meanwhile counts as that turn's.
//     A tap that is behind costs its own turn, not the next one's.
//   - A run in which grpc-tap recorded less than 99 % of the calls, or in which a connection went blind, does not count: it
//     ends with 1 and writes nothing. Of one load that is not asked, for its bounds do not promise it: flood.go says why.
//   - It ends all that it started by pid, and they end with it if it is killed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

func main() {
	// Children are told to die with the thread that started them: this one.
	runtime.LockOSThread()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err := run(ctx, os.Args[1:], os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		cancel()
		os.Exit(1)
	}
}

// roles are what this binary is when it starts itself: `bench ROLE LISTEN [UPSTREAM]`.
var roles = map[string]func(ctx context.Context, listen, upstream string) error{
	"runtime": serveRuntime,
	"relay":   leastRelay,
	"grpc-go": terminate,
}

func run(ctx context.Context, args []string, progress io.Writer) error {
	if len(args) >= 2 {
		if role := roles[args[0]]; role != nil {
			return role(ctx, args[1], append(args, "")[2])
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	binary := flags.String("grpc-tap", "bin/grpc-tap", "`path` of the grpc-tap to measure")
	out := flags.String("out", "docs", "`directory` that benchmarks.md and benchmarks.svg are written to")
	rounds := flags.Int("rounds", 17, "how often each is measured")
	limit := flags.Duration("limit", 5*time.Minute, "give up after this long")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *rounds < 1 {
		return errors.New("usage: bench [--grpc-tap PATH] [--out DIR] [--rounds N] [--limit DURATION]")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *limit, fmt.Errorf("it took longer than %v (--limit)", *limit))
	defer cancel()
	tap, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(tap); err != nil {
		return fmt.Errorf("%w: build it with make", err)
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	b := &bench{dir: dir, binary: tap, progress: progress, machine: lookAround(ctx, tap)}
	defer b.end()
	results, err := b.compare(ctx, *rounds)
	if err == nil {
		err = b.flood(ctx, results)
	}
	if err == nil {
		err = b.fullNode(ctx, results)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if err != nil {
		return err
	}
	return results.write(*out)
}

// bench is one run.
type bench struct {
	dir      string
	binary   string // grpc-tap's
	progress io.Writer
	machine  machine
	running  []*process // in the order they were started
}

// end ends whatever still runs, the newest first.
func (b *bench) end() {
	for len(b.running) > 0 {
		p := b.running[len(b.running)-1]
		b.running = b.running[:len(b.running)-1]
		p.stop()
	}
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "bench: "+format+"\n", args...)
}
