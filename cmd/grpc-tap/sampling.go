package main

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/grpc-tap/grpc-tap/internal/sample"
	"github.com/grpc-tap/grpc-tap/internal/span"
)

// samplingFlags say which calls' spans are exported: unless told otherwise, all.
type samplingFlags struct {
	rate string // empty: not given
}

func (s *samplingFlags) add(f *pflag.FlagSet) {
	f.StringVar(&s.rate, "sampling-rate-per-million", "", "export spans of what failed, is slow, changes something or is of a pod's start or stop,\nand `N` in a million of the rest, which is polling (not given: export every call's)")
}

func (s *samplingFlags) check() error {
	_, err := s.sampler()
	return err
}

// sampler is the one that is asked for; nil: none.
func (s *samplingFlags) sampler() (*sample.Sampler, error) {
	if s.rate == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(s.rate)
	if err != nil {
		return nil, fmt.Errorf("--sampling-rate-per-million %s: give a number from 0 to 1000000", s.rate)
	}
	sampler, err := sample.New(sample.Options{RatePerMillion: n})
	if err != nil {
		return nil, fmt.Errorf("--sampling-rate-per-million: %w", err)
	}
	return sampler, nil
}

// open is the sampler that decides; nil: the exporter does, by the standard variables.
func (s *samplingFlags) open(spans *span.Exporter, log *slog.Logger) (*sample.Sampler, error) {
	sampler, err := s.sampler()
	if sampler != nil && spans.Samples() {
		log.Warn("--sampling-rate-per-million is passed over, since OTEL_TRACES_SAMPLER is set: give one of them")
		return nil, err
	}
	return sampler, err
}
