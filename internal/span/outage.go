package span

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// sayEvery is how often that is said at most: a collector that is short of memory
// refuses one request and takes the next, for hours.
const sayEvery = time.Minute

// outage tells a person, in one line each, that spans stopped arriving and
// that they arrive again. Only the batch processor's goroutine calls it, so a
// slow log never delays a record.
type outage struct {
	log      *slog.Logger
	endpoint string
	ledger   *ledger

	down         bool      // and that was said
	said         time.Time // when
	before       uint64    // spans dropped up to the last request that arrived
	saidFull     bool
	saidRejected bool
}

// report is told how each request ended.
func (o *outage) report(err error, a answer) {
	switch {
	case err != nil && !o.down && time.Since(o.said) >= sayEvery:
		o.down, o.said = true, time.Now()
		o.log.Warn("cannot export spans: calls go on; spans are dropped and counted until it answers",
			"endpoint", o.endpoint, "cause", cause(err), "next", nextStep(err))
	case err == nil && o.down:
		o.down = false
		o.log.Info("spans are exported again", "endpoint", o.endpoint, "dropped", o.ledger.dropped()-o.before)
	case err == nil && !o.saidFull && o.ledger.dropped() > o.before && o.ledger.queueFull.Load() > 0:
		o.saidFull = true
		o.log.Warn("the collector takes spans more slowly than calls come: what does not fit the queue is dropped and counted",
			"endpoint", o.endpoint, "dropped", o.ledger.queueFull.Load(), "next", "raise OTEL_BSP_MAX_QUEUE_SIZE, or sample with OTEL_TRACES_SAMPLER")
	}
	if err == nil {
		o.before = o.ledger.dropped()
	}
	if a.rejected > 0 && !o.saidRejected {
		o.saidRejected = true
		o.log.Warn("the collector refuses some spans: they are dropped and counted",
			"endpoint", o.endpoint, "cause", a.message, "next", "see the collector's log")
	}
}

// cause is the innermost description in err: gRPC wraps what the dialler said in
// two more, and the exporter in a third.
func cause(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "desc = "); i >= 0 {
		text = text[i+len("desc = "):]
	}
	if s, err := strconv.Unquote(text); err == nil {
		text = s
	}
	return strings.TrimPrefix(text, "transport: ")
}

// hints go from the cause's text to what to do about it; the first that is
// found counts. gRPC gives all of these the one code UNAVAILABLE.
var hints = []struct{ in, do string }{
	{"first record does not look like a tls handshake", "the collector takes plaintext there: add --otlp-insecure (or OTEL_EXPORTER_OTLP_INSECURE=true)"},
	{"handshake failed: eof", "perhaps the collector takes plaintext there: try --otlp-insecure (or OTEL_EXPORTER_OTLP_INSECURE=true)"},
	{"x509:", "name its CA in OTEL_EXPORTER_OTLP_CERTIFICATE"},
	{"server preface", "no plaintext gRPC is spoken there: OTLP/gRPC is usually port 4317 (4318 is HTTP); if it wants TLS, leave out --otlp-insecure"},
	{"connection refused", "start the collector, or check --otlp-endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT)"},
	{"no such host", "check the host's name in --otlp-endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT)"},
	{"zero addresses", "check the host's name in --otlp-endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT)"},
}

// nextStep is what a person can do about err.
func nextStep(err error) string {
	text := strings.ToLower(err.Error())
	for _, h := range hints {
		if strings.Contains(text, h.in) {
			return h.do
		}
	}
	switch grpcstatus.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied:
		return "give the collector its credentials in OTEL_EXPORTER_OTLP_HEADERS"
	case codes.Unimplemented:
		return "enable an OTLP/gRPC traces receiver there, or check --otlp-endpoint"
	case codes.ResourceExhausted:
		return "raise what the collector takes (its limits, max_recv_msg_size_mib), or lower OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
	case codes.DeadlineExceeded:
		return "nothing answered in time: check --otlp-endpoint and what is between (or raise OTEL_EXPORTER_OTLP_TIMEOUT)"
	default:
		return "check --otlp-endpoint and the collector's log"
	}
}
