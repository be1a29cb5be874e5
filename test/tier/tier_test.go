// Package tier has many nodes send their spans to real OpenTelemetry Collectors, with the
// configs of deploy/observability, and holds what comes out behind them against what the
// nodes gave.
//
//	Fleet: agents' exporters ──▶ [ gateway, or a Service ──▶ ] collectors ──▶ Sink
package tier

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// eventually ends a test that hangs, and decides nothing else.
const eventually = time.Minute

// patience is how long who waits for an answer does, in milliseconds: what is looked at is
// not how busy this machine is.
const patience = "60000"

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(eventually); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", eventually, what)
		}
	}
}

// Tier is some collectors, and a gateway before them if there is one.
type Tier struct {
	Gateway  *Collector
	Backends []*Collector
	Sink     *Sink

	t     testing.TB
	lab   *lab.Lab
	setup []Setup // of each backend
	hosts string  // the gateway's /etc/hosts
}

// NewTier starts so many collectors, at 127.0.1.1, 127.0.1.2 …, with these settings over
// those of their config.
func NewTier(t testing.TB, collectors int, set ...string) *Tier {
	t.Helper()
	otelcol(t)
	tier := &Tier{t: t, lab: lab.New(t)}
	sink, doors := NewSink(t, collectors)
	tier.Sink = sink
	port := free(t, "127.0.1.1", 1)[0]
	for i := range collectors {
		host := fmt.Sprint("127.0.1.", i+1)
		tier.setup = append(tier.setup, Setup{
			Config: "collector/collector.yaml", Host: host, Port: port, Traces: doors[i],
			Set: append([]string{"yaml:exporters::prometheus::endpoint: " + host + ":0", "yaml:exporters::otlp_grpc/traces::timeout: " + patience + "ms"}, set...),
		})
		tier.Backends = append(tier.Backends, Start(t, tier.lab, tier.setup[i]))
	}
	return tier
}

// Behind puts a gateway before the collectors.
func (tier *Tier) Behind() *Tier {
	tier.t.Helper()
	if os.Geteuid() != 0 {
		tier.t.Skip("this machine cannot run it: not root (the gateway's /etc/hosts is mounted)")
	}
	tier.hosts = tier.lab.Write("hosts", "")
	tier.Resolve()
	tier.Gateway = Start(tier.t, tier.lab, Setup{
		Config: "tier/gateway/gateway.yaml", Host: "127.0.0.1", Hosts: tier.hosts,
		Set: []string{
			fmt.Sprintf(`yaml:exporters::load_balancing::resolver::dns::port: "%d"`, tier.setup[0].Port),
			"yaml:exporters::load_balancing::protocol::otlp::timeout: " + patience + "ms",
		},
	})
	return tier
}

// Resolve has the gateway find all collectors but those, as the headless Service's name
// does, and waits until it has.
func (tier *Tier) Resolve(but ...int) {
	tier.t.Helper()
	var hosts strings.Builder
	for i, s := range tier.setup {
		if !slices.Contains(but, i) {
			fmt.Fprintln(&hosts, s.Host, "opentelemetry-collector-backends")
		}
	}
	// Not a new file in its place: this one is mounted.
	if err := os.WriteFile(tier.hosts, []byte(hosts.String()), 0o644); err != nil {
		tier.t.Fatal(err)
	}
	if tier.Gateway != nil {
		until(tier.t, "the gateway knows its collectors", func() bool {
			return tier.Gateway.Value(tier.t, "otelcol_loadbalancer_num_backends") == len(tier.setup)-len(but)
		})
	}
}

// Endpoint is what the nodes send to.
func (tier *Tier) Endpoint() string {
	if tier.Gateway != nil {
		return tier.Gateway.Address
	}
	return tier.Backends[0].Address
}

// Again starts a collector that has ended.
func (tier *Tier) Again(i int) {
	tier.t.Helper()
	tier.Backends[i] = Start(tier.t, tier.lab, tier.setup[i])
}

// End ends all of them, so that what they hold arrives.
func (tier *Tier) End() {
	tier.t.Helper()
	if tier.Gateway != nil {
		tier.Gateway.End(tier.t)
	}
	for _, c := range tier.Backends {
		select {
		case <-c.Done():
		default:
			c.End(tier.t)
		}
	}
}

// Arrived ends all, once each span is exported or dropped, and compares.
func (tier *Tier) Arrived(fleet *Fleet) (Counts, Arrivals) {
	tier.t.Helper()
	counts := fleet.Settle(tier.t)
	tier.End()
	a := tier.Sink.Arrivals(fleet.Given)
	tier.t.Logf("%+v: %+v", counts, a)
	return counts, a
}

// Accounted is Arrived, and holds that no span is missing that the agents have not counted.
func (tier *Tier) Accounted(fleet *Fleet) (Counts, Arrivals) {
	tier.t.Helper()
	counts, a := tier.Arrived(fleet)
	if a.Missing > int(counts.Dropped) {
		tier.t.Errorf("%d spans are missing, and the agents have counted %d", a.Missing, counts.Dropped)
	}
	return counts, a
}
