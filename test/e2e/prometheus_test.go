package e2e

import (
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

const (
	prometheusFile = "../../deploy/observability/prometheus/prometheus.yaml"
	rulesFile      = "../../deploy/observability/prometheus/rules.yaml"
)

// target is what Kubernetes' discovery finds of a pod's port.
type target struct{ address, app, port, phase, node, pod string }

// discovered is the delivered configuration as if these pods were the cluster's, and
// scraped each two seconds. Debian's Prometheus is built without Kubernetes' discovery: the
// test says what that would.
func discovered(t testing.TB, l *lab.Lab, more map[string]any, pods ...target) (file string) {
	t.Helper()
	var config map[string]any
	err := yaml.UnmarshalStrict([]byte(contentOf(t, prometheusFile)), &config)
	rules, abs := filepath.Abs(rulesFile)
	if err != nil || abs != nil {
		t.Fatal(err, abs)
	}
	var static []any
	for _, p := range pods {
		static = append(static, map[string]any{"targets": []string{p.address}, "labels": map[string]string{
			"__meta_kubernetes_pod_label_app_kubernetes_io_name": p.app, "__meta_kubernetes_pod_container_port_name": p.port,
			"__meta_kubernetes_pod_phase": p.phase, "__meta_kubernetes_pod_node_name": p.node, "__meta_kubernetes_pod_name": p.pod,
		}})
	}
	jobs := config["scrape_configs"].([]any)
	for _, job := range jobs {
		job := job.(map[string]any)
		if job["kubernetes_sd_configs"] == nil {
			t.Fatalf("%v finds nothing by itself", job["job_name"])
		}
		delete(job, "kubernetes_sd_configs")
		job["static_configs"] = static
	}
	config["scrape_configs"] = append(jobs, more)
	config["global"] = map[string]any{"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
	config["rule_files"] = []string{rules}
	content, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return l.Write("prometheus.yaml", string(content))
}

// others answer in the place of what is not here: a collector, as deploy/observability's
// writes pods' starts, and kube-state-metrics, which knows a node without an agent.
const others = `# TYPE pod_start_duration_seconds histogram
pod_start_duration_seconds_bucket{k8s_namespace_name="shop",k8s_pod_name="web",k8s_node_name="node-1",grpc_tap_pod_outcome="started",le="30"} 1
pod_start_duration_seconds_bucket{k8s_namespace_name="shop",k8s_pod_name="web",k8s_node_name="node-1",grpc_tap_pod_outcome="started",le="+Inf"} 1
pod_start_duration_seconds_sum{k8s_namespace_name="shop",k8s_pod_name="web",k8s_node_name="node-1",grpc_tap_pod_outcome="started"} 12.5
pod_start_duration_seconds_count{k8s_namespace_name="shop",k8s_pod_name="web",k8s_node_name="node-1",grpc_tap_pod_outcome="started"} 1
# TYPE kube_node_info gauge
kube_node_info{node="node-1",os_image="Debian GNU/Linux 12"} 1
kube_node_info{node="node-2",os_image="Debian GNU/Linux 12"} 1
`

// neverHere are the alerts whose condition no test of seconds can bring about;
// rules.test.yaml has all of them.
var neverHere = map[string]string{"GrpcTapCallHangs": "a call has run for ten minutes"}

// TestPrometheus runs a node through all that may go wrong on it, with an agent whose page
// a real Prometheus scrapes, by the delivered configuration and rules: every query of the
// dashboard and of docs/metrics.md returns data, every alert's condition comes true, and
// where the dashboard asks for exemplars, they are spans that the collector has.
func TestPrometheus(t *testing.T) {
	n := newFakeNode(t)
	a := onAgent(t, n, "metricsListen: 127.0.0.1:9464", "otlpEndpoint: 127.0.0.1:4317", "otlpInsecure: true", "samplingRatePerMillion: 500000")
	a.argv = append(a.argv, "-o", "none")
	beside := a.lab.Listen("127.0.0.1:9465")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, others) })}
	go server.Serve(beside)
	t.Cleanup(func() { server.Close() })
	spans := NewCollector(t)
	spans.ServeIn(a.lab, "127.0.0.1:4317")
	ours := target{"127.0.0.1:9464", "grpc-tap", "metrics", "Running", "node-1", "grpc-tap-x"}
	elsePort, evicted, stranger := ours, ours, ours
	elsePort.port, evicted.phase, stranger.app = "other", "Failed", "another"
	p := a.lab.Prometheus(discovered(t, a.lab,
		map[string]any{"job_name": "kube-state-metrics", "static_configs": []any{map[string]any{"targets": []string{"127.0.0.1:9465"}}}},
		ours, elsePort, evicted, stranger,
		target{"127.0.0.1:9465", "opentelemetry-collector", "own-metrics", "Running", "node-1", "collector-x"},
		target{"127.0.0.1:9465", "opentelemetry-collector", "pod-starts", "Running", "node-1", "collector-x"},
		target{"127.0.0.1:9465", "opentelemetry-collector-backends", "own-metrics", "Running", "node-1", "backend-x"},
		target{"127.0.0.1:9465", "opentelemetry-collector-backends", "pod-starts", "Running", "node-1", "backend-x"},
	))

	d := newDay(t, n, a)
	a.starts()
	a.stands(n.cri)
	a.stands(d.good)
	p.Process.Until("each job has its pod", eventuallyTime, func() bool {
		return len(p.Ask(`up{job="grpc-tap", node="node-1", instance="node-1"} == 1`)) == 1 &&
			len(p.Ask(`up{job=~"opentelemetry-collector|grpc-tap-pod-starts", instance=~"(collector|backend)-x"} == 1`)) == 4
	})
	if got := p.Ask(`up{job!="kube-state-metrics"}`); len(got) != 5 {
		t.Errorf("and others: %v", got)
	}

	d.begins()
	all := &awaited{Prometheus: p, left: queries{}, t: t}
	for _, q := range slices.Concat(readDashboard(t).queries(), docQueries(t), alerts(t)) {
		all.left[q] = true
	}
	all.until("exemplars", func() bool {
		all.exemplars(spans)
		return !all.left.any(func(q asked) bool { return q.exemplars })
	})
	d.worsens(all, spans)
	untapped := func(q asked) bool { return strings.Contains(q.query, "grpc_tap_socket_ready") }
	all.until("all but what nothing tapped leads to", func() bool {
		return !all.left.any(func(q asked) bool { return !untapped(q) })
	})
	if err := os.WriteFile(a.path("state/disable"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.until("everything", func() bool { return len(all.left) == 0 })
	d.ends()
	checkDocumented(t, p)
}

// awaited is what has not returned data yet.
type awaited struct {
	*lab.Prometheus
	left queries
	t    testing.TB
}

type queries map[asked]bool

func (all queries) any(are func(asked) bool) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(all)), are)
}

// alerts are the conditions of those that can come true here.
func alerts(t testing.TB) (all []asked) {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte(contentOf(t, rulesFile)), &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if neverHere[r.Alert] == "" {
				all = append(all, asked{where: r.Alert, query: r.Expr, alert: true})
			}
		}
	}
	return all
}

// onlyZero are the queries for what no test of seconds can bring about: zero will do.
var onlyZero = map[string]string{
	"Records dropped, by sink A":                        "a sink is behind by thousands of records",
	"# pulls that took more than two minutes, in a day": "a pull takes two minutes",
}

// ask asks for what is left. Not a number is no data, and zero not what was provoked. An
// alert's condition Prometheus itself has found true, and has words for it.
func (w *awaited) ask() {
	w.t.Helper()
	for q := range w.left {
		if !q.alert && !q.exemplars && slices.ContainsFunc(w.Ask(q.query), func(s *model.Sample) bool {
			return s.Value != 0 && !math.IsNaN(float64(s.Value)) || s.Value == 0 && onlyZero[q.where] != ""
		}) {
			delete(w.left, q)
		}
	}
	active, err := w.Alerts(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, alert := range active.Alerts {
		name := string(alert.Labels["alertname"])
		maps.DeleteFunc(w.left, func(q asked, _ bool) bool { return q.alert && q.where == name })
		for of, text := range alert.Annotations {
			if s := string(text); strings.Contains(s, "<") || strings.Contains(s, "%!") || strings.Contains(s, "  ") || strings.TrimSpace(s) == "" {
				w.t.Errorf("%s: its %s is %q", name, of, s)
			}
		}
	}
}

// exemplars asks for those of the queries that are left. Those that the collector has not
// got yet are asked for again.
func (w *awaited) exemplars(c *Collector) {
	w.t.Helper()
	known := c.Spans()
	maps.Copy(known, c.Roots())
	for q := range w.left {
		if !q.exemplars {
			continue
		}
		series, err := w.QueryExemplars(w.t.Context(), q.query, time.Now().Add(-time.Hour), time.Now())
		if err != nil {
			w.t.Fatalf("%s: %v", q.where, err)
		}
		for _, s := range series {
			for _, e := range s.Exemplars {
				if span := known[string(e.Labels["span_id"])]; span != nil && fmt.Sprintf("%x", span.GetTraceId()) == string(e.Labels["trace_id"]) {
					delete(w.left, q)
					q.exemplars = false
					w.left[q] = true
				}
			}
		}
	}
}

// provokedWithin is for a busy machine: a pod gives up after twenty seconds at the
// earliest.
const provokedWithin = 3 * time.Minute

// until asks again and again, and says in the end what has never come.
func (w *awaited) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(provokedWithin); !ok(); time.Sleep(200 * time.Millisecond) {
		if w.ask(); time.Now().After(deadline) {
			for q := range w.left {
				w.t.Errorf("no data, exemplars %v: %s: %s", q.exemplars, q.where, q.query)
			}
			w.t.Fatalf("not in time: %s", what)
		}
	}
}

// worsens is what happens to grpc-tap itself: a relay is killed, the agent gets no processor
// for a while, and the collector goes away.
func (d *day) worsens(w *awaited, spans *Collector) {
	d.t.Helper()
	if err := unix.Kill(by(d.t, d.good), unix.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	spans.server.Stop()
	stopped := d.agent.PID()
	if err := unix.Kill(stopped, unix.SIGSTOP); err != nil {
		d.t.Fatal(err)
	}
	d.lists()
	w.until("the agent does not answer", func() bool { return len(w.Ask(`up{job="grpc-tap"} == 0`)) == 1 })
	if err := unix.Kill(stopped, unix.SIGCONT); err != nil {
		d.t.Fatal(err)
	}
}
