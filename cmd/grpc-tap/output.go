package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/identity"
	"github.com/grpc-tap/grpc-tap/internal/sample"
	"github.com/grpc-tap/grpc-tap/internal/span"
	"github.com/grpc-tap/grpc-tap/internal/tap"
	"github.com/grpc-tap/grpc-tap/internal/view"
	"github.com/grpc-tap/grpc-tap/internal/view/term"
)

// output is where calls go: the terminal, and a collector if one is named.
type output struct {
	log     *slog.Logger
	sinks   []*tap.Queue
	pods    *identity.Map
	records *tap.Out // in front of the sinks
	printed printer
	spans   *span.Exporter  // nil: none are exported
	sampler *sample.Sampler // nil: spans decides which
	metrics *metrics        // nil: none are served
	phases  *phases

	toStdout, toSpans, toMetrics, toAlso *tap.Queue // in front of each; nil where there is none
}

// printer is a view on stdout; its error is that of a write.
type printer interface {
	tap.Sink
	Err() error
}

// open starts the sinks, of which also may be nil. stop is called when nobody reads stdout any more.
func (s *showFlags) open(ctx context.Context, stop func(), stdout, stderr io.Writer, also tap.Sink) (*output, error) {
	level, err := s.level()
	if err != nil {
		return nil, err
	}
	o := &output{log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))}
	if err := s.payload.open(o.log); err != nil {
		return nil, err
	}
	if o.metrics, err = s.count(o, stderr); err != nil {
		return nil, err
	}
	if span.Configured(s.endpoint, os.Getenv) {
		if err := s.export(ctx, o); err != nil {
			o.metrics.close(ctx)
			return nil, err
		}
		o.toSpans = o.queue("the exporter", o.spans)
	}
	if o.printed = s.printer(stdout); o.printed != nil {
		o.toStdout = o.queue("stdout", &filtered{filter: s.filter, to: o.printed, stop: stop})
	}
	if o.metrics != nil {
		o.toMetrics = o.queue("the metrics", o.metrics)
	}
	if also != nil {
		o.toAlso = o.queue("the summary", also)
	}
	o.phases = newPhases(o.spans, o.metrics, s.keeps(), s.remember, o.log)
	o.pods = identity.New()
	o.records = tap.NewOut(o.pods, o.phases, o.sinks...)
	switch {
	case o.sampler != nil:
		o.records.Sample = o.sampler.Sample
	case o.spans != nil:
		o.records.Sample = o.spans.Sample
	}
	return o, nil
}

// export makes what spans are sent by.
func (s *showFlags) export(ctx context.Context, o *output) (err error) {
	v, _ := versionInfo()
	o.spans, err = span.New(context.WithoutCancel(ctx), span.Options{Endpoint: s.endpoint, Insecure: s.insecure, Version: v, Log: o.log})
	if err == nil {
		o.sampler, err = s.sampling.open(o.spans, o.log)
	}
	return err
}

// queue puts a queue before a sink.
func (o *output) queue(name string, to tap.Sink) *tap.Queue {
	q := tap.NewQueue(name, to, tap.QueueSize)
	o.sinks = append(o.sinks, q)
	return q
}

// filtered prints the records that match, until a write fails.
type filtered struct {
	filter  view.Filter
	to      printer
	stop    func()
	matches []*call.Record // to be used again
}

// Records implements tap.Sink.
func (f *filtered) Records(all []*call.Record) {
	if f.to.Err() != nil {
		return
	}
	f.matches = f.matches[:0]
	for _, r := range all {
		if f.filter.Match(r) {
			f.matches = append(f.matches, r)
		}
	}
	f.to.Records(f.matches)
	clear(f.matches)
	if f.to.Err() != nil {
		f.stop()
	}
}

// close delivers what is queued, for at most goodbye; what is not delivered by
// then is counted as lost. Nobody may put records any more. goesOn: other taps go
// on where we leave.
func (o *output) close(goesOn bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	o.records.Close()
	o.phases.close(goesOn)
	var sending sync.WaitGroup
	if o.spans != nil {
		sending.Go(func() {
			o.toSpans.Close(ctx)
			// What could not be sent is counted, and losses says so.
			_ = o.spans.Shutdown(ctx)
		})
	}
	if o.metrics != nil {
		sending.Go(func() {
			o.toMetrics.Close(ctx)
			o.metrics.close(ctx)
		})
	}
	if o.toAlso != nil {
		sending.Go(func() { o.toAlso.Close(ctx) })
	}
	defer sending.Wait()
	if o.printed == nil {
		return nil
	}
	if !o.toStdout.Close(ctx) {
		return errors.New("stdout was not read to the end: the last calls are not printed")
	}
	if text, ok := o.printed.(*term.Text); ok && len(o.phases.kept) > 0 {
		text.Phases(o.phases.kept)
	}
	if err := o.printed.Err(); err != nil && !errors.Is(err, unix.EPIPE) { // a reader such as head has had enough
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

// losses says what was seen and did not get out, "" if nothing.
func (o *output) losses() string {
	var lost []string
	for _, q := range o.sinks {
		if n := q.Dropped(); n > 0 {
			lost = append(lost, fmt.Sprintf("%s not taken by %s", plural(n, "record"), q.Name))
		}
	}
	if o.spans != nil {
		s := o.spans.Stats()
		lost = append(lost, fmt.Sprintf("%s exported", plural(s.Exported, "span")))
		for _, reason := range slices.Sorted(maps.Keys(s.Dropped)) {
			if n := s.Dropped[reason]; n > 0 {
				lost = append(lost, fmt.Sprintf("%d dropped (%s)", n, reason))
			}
		}
	}
	if o.sampler != nil {
		lost = append(lost, fmt.Sprintf("%s not sampled", plural(o.sampler.Stats().Dropped, "call")))
	}
	if len(lost) == 0 {
		return ""
	}
	return "; " + strings.Join(lost, ", ")
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// dropped are the records that were not taken, by what would not take them.
func (o *output) dropped() map[string]uint64 {
	n := map[string]uint64{}
	for sink, q := range map[string]*tap.Queue{"stdout": o.toStdout, "spans": o.toSpans, "metrics": o.toMetrics, "summary": o.toAlso} {
		if q != nil {
			n[sink] = q.Dropped()
		}
	}
	return n
}
