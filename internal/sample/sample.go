// Package sample decides on the node which calls' spans are worth sending.
//
//	Record ──▶ failed? its caller's, its pod's? changes something? slow? ──▶ kept
//	              └ no: it is polling, of which a share by trace id is kept
//
// Its rule: what failed is kept, whatever else is so; of what repeats by itself
// there is a bound, however long it goes on. Kept and dropped add up to the calls.
//
// It reads no clock: time is the records' own.
package sample

import (
	"fmt"
	"hash/maphash"
	"strconv"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// million is all of the polling.
const million = 1_000_000

// Options say how much is kept.
type Options struct {
	// RatePerMillion is the share of polling that is kept, as samplingRatePerMillion
	// of Kubernetes' TracingConfiguration: 0 is none of it, a million all.
	RatePerMillion int
}

// Why a call is kept: the first of these that is so. They are keys of Stats.Kept.
const (
	Failed  = "failed" // it ended with anything but OK, or was lost
	Caller  = "caller" // its caller has sampled it, and has a trace that is to have no hole
	Pod     = "pod"    // it is of a pod's start or stop
	Exit    = "exit"   // an ExecSync whose command failed
	Changes = "change" // its method changes something, or nobody knows what it does
	First   = "first"  // the method's first
	Slow    = "slow"   // it took longer than is usual of its method
	Share   = "share"  // of the rest
)

// Of what repeats by itself, the first are kept, and then one now and then.
const (
	exitsAtOnce  = 10 // of a container
	exitsEvery   = time.Minute
	mountsAtOnce = 1 // of a path that a volume is published at
	mountsEvery  = time.Hour
)

// Sampler decides call by call. Its method may be called from several goroutines.
type Sampler struct {
	below uint64 // of the second half of a trace id, halved, that is in the share
	seed  maphash.Seed

	mu      sync.Mutex
	usuals  usuals
	exits   pace // by container
	mounts  pace // by path
	kept    map[string]*uint64
	dropped uint64
}

// New makes a Sampler that has seen nothing yet.
func New(o Options) (*Sampler, error) {
	if o.RatePerMillion < 0 || o.RatePerMillion > million {
		return nil, fmt.Errorf("%d is no share of a million: give 0 to 1000000", o.RatePerMillion)
	}
	s := &Sampler{
		below: uint64(float64(o.RatePerMillion) / million * (1 << 63)), seed: maphash.MakeSeed(),
		usuals: usuals{}, exits: newPace(exitsAtOnce, exitsEvery), mounts: newPace(mountsAtOnce, mountsEvery),
		kept: map[string]*uint64{},
	}
	for _, why := range []string{Failed, Caller, Pod, Exit, Changes, First, Slow, Share} {
		s.kept[why] = new(uint64)
	}
	return s, nil
}

// Sample says whether a call that has ended is kept, and counts it.
func (s *Sampler) Sample(r *call.Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	why := s.why(r)
	if why == "" {
		s.dropped++
		return false
	}
	*s.kept[why]++
	return true
}

// why r is kept; "": it is not.
func (s *Sampler) why(r *call.Record) string {
	switch {
	case r.Failed():
		return Failed
	case r.ParentSampled:
		return Caller
	case r.PodParent:
		return Pod
	case badExit(r):
		if s.exits.pass(maphash.String(s.seed, r.Container.ID), r.Start) {
			return Exit
		}
	case publishes(r):
		if s.mounts.pass(maphash.String(s.seed, r.Volume.Path), r.Start) {
			return Changes
		}
	case !asks[name{r.Service, r.Method}]:
		return Changes
	}
	return s.polling(r)
}

// polling is why a call is kept that comes again and again.
func (s *Sampler) polling(r *call.Record) string {
	u := s.usuals.of(method{r.Socket, name{r.Service, r.Method}})
	first := u.n == 0
	slow := u.slow(r.Duration())
	switch {
	case first:
		return First
	case slow:
		return Slow
	case s.inShare(r.TraceID):
		return Share
	}
	return ""
}

// inShare decides as OpenTelemetry's TraceIDRatioBased does: of one trace, here and
// anywhere else, all or nothing.
func (s *Sampler) inShare(traceID string) bool {
	x := uint64(0) // of an id that is none
	if len(traceID) == 32 {
		x, _ = strconv.ParseUint(traceID[16:], 16, 64)
	}
	return x>>1 < s.below
}

// Stats are counts since New. All of Kept, and Dropped, add up to the calls.
type Stats struct {
	Kept    map[string]uint64 // by reason; every reason is present
	Dropped uint64
}

// Stats returns the counts so far.
func (s *Sampler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := Stats{Kept: map[string]uint64{}, Dropped: s.dropped}
	for why, n := range s.kept {
		all.Kept[why] = *n
	}
	return all
}
