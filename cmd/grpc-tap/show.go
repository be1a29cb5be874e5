package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/otlp"
	"github.com/grpc-tap/grpc-tap/internal/view"
	"github.com/grpc-tap/grpc-tap/internal/view/term"
)

// showFlags are shared by the commands that show calls. The filters choose
// what is printed, and not which spans are exported.
type showFlags struct {
	format   string
	filter   view.Filter
	endpoint string
	insecure bool
	sends    bool   // metrics to the collector too
	metrics  string // where the page is served; empty: nowhere
	logLevel string
	payload  payloadFlags
	sampling samplingFlags
	remember string // the file by which pods' traces outlive a tap
}

func (s *showFlags) add(f *pflag.FlagSet) {
	f.StringVarP(&s.format, "output", "o", "text", "how to print calls: text, wide, json (a record a line) or none")
	f.BoolVar(&s.filter.Errors, "errors", false, "print only calls that failed or were lost")
	f.DurationVar(&s.filter.SlowerThan, "slower-than", 0, "print only calls that took at least this long, such as 1s")
	f.StringVar(&s.filter.Pod, "pod", "", "print only calls about this pod: `[NS/]NAME`")
	f.StringVar(&s.filter.Method, "method", "", "print only methods that match this `GLOB`, such as '*Container*' or 'csi.v1.Node/*'")
	f.StringVar(&s.endpoint, "otlp-endpoint", "", "export spans to this collector by OTLP/gRPC: `HOST:PORT` (or OTEL_EXPORTER_OTLP_ENDPOINT)")
	f.BoolVar(&s.insecure, "otlp-insecure", false, "the collector takes plaintext, not TLS")
	f.BoolVar(&s.sends, "otlp-metrics", false, "send metrics to the collector too, each minute (or OTEL_METRICS_EXPORTER=otlp)")
	s.sampling.add(f)
	f.StringVar(&s.metrics, "metrics-listen", "", "serve /metrics, /healthz and /readyz on this `[HOST]:PORT`, or port of 127.0.0.1 (0: any that is free)")
	s.payload.add(f)
	f.StringVar(&s.logLevel, "log-level", "info", "what to log on stderr: debug, info, warn or error")
}

var formats = []string{"text", "wide", "json", "none"}

func (s *showFlags) check() error {
	if !slices.Contains(formats, s.format) {
		return fmt.Errorf("-o %s: there is no such format; give one of %s", s.format, strings.Join(formats, ", "))
	}
	if _, err := s.level(); err != nil {
		return err
	}
	return errors.Join(s.filter.Validate(), s.sampling.check(), s.payload.check(), s.checkMetrics(), s.checkEndpoint())
}

func (s *showFlags) checkEndpoint() error {
	if s.endpoint == "" {
		return nil
	}
	return otlp.CheckEndpoint(s.endpoint)
}

func (s *showFlags) level() (l slog.Level, err error) {
	if err := l.UnmarshalText([]byte(s.logLevel)); err != nil {
		return l, fmt.Errorf("--log-level %s: give one of debug, info, warn, error", s.logLevel)
	}
	return l, nil
}

// keeps says of which pods the starts and stops are drawn at the end; nil: of none.
func (s *showFlags) keeps() func(call.Pod) bool {
	if s.filter.Pod == "" {
		return nil
	}
	of := view.Filter{Pod: s.filter.Pod}
	return func(p call.Pod) bool { return of.Match(&call.Record{Pod: p}) }
}

func (s *showFlags) printer(stdout io.Writer) printer {
	switch s.format {
	case "none":
		return nil
	case "json":
		return term.NewJSON(stdout)
	}
	width, tty := terminal(stdout)
	return term.NewText(stdout, term.Options{
		Width: width, Wide: s.format == "wide", ASCII: !tty,
		Color: tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	})
}

// terminal is the width of the terminal that w is, if it is one.
func terminal(w io.Writer) (width int, tty bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return int(size.Col), true
}
