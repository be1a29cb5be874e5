package lab

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// Prometheus is Debian's, on 127.0.0.1 in the lab's network namespace, as what it
// scrapes has to be.
type Prometheus struct {
	*Process
	prometheus.API
	t testing.TB
}

// Prometheus starts one with this file.
func (l *Lab) Prometheus(config string) *Prometheus {
	l.t.Helper()
	l.isolate()
	const address = "127.0.0.1:9090"
	p := &Prometheus{t: l.t}
	// The connections of this client are made inside the namespace.
	inside := &http.Transport{DialContext: l.dial}
	client, err := api.NewClient(api.Config{Address: "http://" + address, RoundTripper: inside})
	if err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	l.t.Cleanup(inside.CloseIdleConnections)
	p.API = prometheus.NewAPI(client)
	p.Process = l.Start("prometheus", nil, need(l.t, "prometheus"), "--config.file", config, "--storage.tsdb.path", l.Path("tsdb"),
		"--web.listen-address", address, "--enable-feature", "exemplar-storage")
	p.Process.Until("it answers", 30*time.Second, func() bool {
		_, err := p.Buildinfo(context.Background())
		return err == nil
	})
	return p
}

// Ask evaluates a query now.
func (p *Prometheus) Ask(query string) model.Vector {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	v, _, _, err := p.Query(ctx, query, time.Now())
	if err != nil {
		p.t.Fatalf("prometheus: %v, asked for %s", err, query)
	}
	all, ok := v.(model.Vector)
	if !ok {
		p.t.Fatalf("prometheus: %s is no vector: %v", query, v)
	}
	return all
}
