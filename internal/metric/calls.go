package metric

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// What the labels of calls may be. Methods are those of the APIs that are known, and
// codes those that gRPC defines.
const (
	maxSockets = 128 // of a node: its runtime, its drivers, its plugins
	maxDrivers = 64
	maxValue   = 128 // bytes; a CSI driver's name has 63 at most, a socket's path 107
	// maxSeries bounds the sets of labels, at up to 9 KB each. A node has some
	// hundred.
	maxSeries = 2048
)

// connectionLost is error_type of a call whose connection ended first, as on spans.
const connectionLost = "connection_lost"

// callSeconds are semconv's buckets for rpc.client.call.duration, and four more: a
// pull takes minutes.
var callSeconds = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300}

// labels are those of a call, in this order.
type labels struct{ method, code, errorType, socket, driver string }

var labelNames = []string{"rpc_method", "rpc_response_status_code", "error_type", "server_address", "csi_driver"}

// tooMany are the labels of calls whose own would be one set too many.
var tooMany = labels{other, other, other, other, other}

// calls is the histogram of calls.
type calls struct {
	*prometheus.HistogramVec
	series           map[labels]prometheus.Observer
	sockets, drivers few
}

func newCalls() *calls {
	return &calls{
		HistogramVec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rpc_client_call_duration_seconds",
			Help:    "How long calls took, from the first byte of the request to the last of the response.",
			Buckets: callSeconds,
		}, labelNames),
		series:  map[labels]prometheus.Observer{},
		sockets: few{most: maxSockets}, drivers: few{most: maxDrivers},
	}
}

func (c *calls) count(r *call.Record) {
	observe(c.of(c.labels(r)), r.DurationMS/1000, r.Sampled, r.TraceID, r.SpanID)
}

// of is where calls with these labels are counted.
func (c *calls) of(l labels) prometheus.Observer {
	if o := c.series[l]; o != nil {
		return o
	}
	if len(c.series) >= maxSeries && l != tooMany {
		return c.of(tooMany)
	}
	o := c.WithLabelValues(l.method, l.code, l.errorType, l.socket, l.driver)
	c.series[l] = o
	return o
}

func (c *calls) labels(r *call.Record) labels {
	l := labels{method: other, code: r.Code, socket: c.sockets.of(r.Socket), driver: c.drivers.of(r.Volume.Driver)}
	if r.Known {
		l.method = r.Service + "/" + r.Method
	}
	if !call.IsCode(r.Code) {
		l.code = other
	}
	switch {
	case r.State == call.Lost: // no status was on the wire, and none is invented
		l.code, l.errorType = "", connectionLost
	case r.Failed():
		l.errorType = l.code
	}
	return l
}

// few lets a label take at most so many values; all further ones are one.
type few struct {
	most int
	seen []string
}

// of is the label's value for v, "" for none.
func (f *few) of(v string) string {
	switch {
	case v == "" || slices.Contains(f.seen, v):
		return v
	case len(f.seen) == f.most || len(v) > maxValue || !utf8.ValidString(v):
		return other
	}
	v = strings.Clone(v) // it may be a part of much more
	f.seen = append(f.seen, v)
	return v
}
