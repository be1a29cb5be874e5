package span

import "sync/atomic"

// Reasons a record did not become an exported span; values of the label
// {reason} of grpc_tap_spans_dropped_total.
const (
	QueueFull    = "queue_full"    // the collector is slower than the calls
	ExportFailed = "export_failed" // it was down, refused, or too late
	Rejected     = "rejected"      // it took the batch and refused some spans
	Shutdown     = "shutdown"      // the record came after Shutdown
)

// Stats are counts since New. Exported, all of Dropped, and what is still
// queued add up to the records, phases and notices given (less those that are not
// sampled).
type Stats struct {
	Exported uint64
	Dropped  map[string]uint64 // by reason; every reason is present
}

// Stats returns the counts so far.
func (e *Exporter) Stats() Stats {
	l := e.ledger
	return Stats{
		Exported: l.exported.Load(),
		Dropped: map[string]uint64{
			QueueFull:    l.queueFull.Load(),
			ExportFailed: l.exportFailed.Load(),
			Rejected:     l.rejected.Load(),
			Shutdown:     l.shutdown.Load(),
		},
	}
}

// ledger bounds the spans that wait or are under way, which are inflight, and
// counts what becomes of them.
type ledger struct {
	limit    int64
	inflight atomic.Int64

	exported, queueFull, exportFailed, rejected, shutdown atomic.Uint64
}

// begin takes one place, or counts a drop.
func (l *ledger) begin() bool {
	if l.inflight.Add(1) > l.limit {
		l.inflight.Add(-1)
		l.queueFull.Add(1)
		return false
	}
	return true
}

// settle books the outcome of n spans handed to the collector and then gives
// their places free, in this order: a reader never sees a span twice.
func (l *ledger) settle(n int, failed bool, rejected int64) {
	refused := uint64(min(max(rejected, 0), int64(n)))
	if failed {
		l.exportFailed.Add(uint64(n))
	} else {
		l.rejected.Add(refused)
		l.exported.Add(uint64(n) - refused)
	}
	l.inflight.Add(int64(-n))
}

func (l *ledger) dropped() uint64 {
	return l.queueFull.Load() + l.exportFailed.Load() + l.rejected.Load()
}
