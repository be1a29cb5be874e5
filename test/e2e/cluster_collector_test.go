//go:build cluster

package e2e

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// realCollector is deploy/observability/collector on a cluster: an OpenTelemetry
// Collector, which passes on to the cluster's spans what the agents send it.
type realCollector struct {
	workload
	overlay string // its directory
	before  int    // the spans that had arrived when it was last started
}

const (
	collectorManifests = "../../deploy/observability/collector"
	collectorImage     = "docker.io/otel/opentelemetry-collector-contrib:0.158.0" // as the manifests call it
	collectorName      = "opentelemetry-collector.observability"                  // as deploy/daemonset does
)

// collectorProgram is what test/lab/collector.sh has built.
func collectorProgram(t *testing.T) string {
	t.Helper()
	program := os.Getenv("OTELCOL")
	if program == "" {
		t.Fatal("OTELCOL does not name the OpenTelemetry Collector to run; run test/lab/cluster.sh")
	}
	return program
}

// collectorImages is an image that is started as opentelemetry-collector-contrib's is.
func collectorImages(t *testing.T) []lab.Image {
	t.Helper()
	program, err := os.ReadFile(collectorProgram(t))
	if err != nil {
		t.Fatal(err)
	}
	return []lab.Image{{
		Name: collectorImage, Entrypoint: []string{"/otelcol-contrib"}, User: "10001:10001",
		Files: []lab.File{{Path: "/otelcol-contrib", Data: program}},
	}}
}

// collector applies the manifests, by an overlay that says what is different in the lab:
// where the spans go, and how the agents come to it without a service.
func (c *cluster) collector() *realCollector {
	c.t.Helper()
	k := &realCollector{
		workload: workload{c, "observability", "deployment", "opentelemetry-collector", "collector"},
		overlay:  c.r.Path("collector"),
	}
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Logf("the collector's log:\n%s", k.log())
		}
	})
	k.validate()
	c.r.Write("collector/kustomization.yaml", strings.NewReplacer(
		"BASE", c.relative(k.overlay, collectorManifests), "SPANS", c.spans.ServeIn(c.r.Lab, lab.NodeAddress+":0")).Replace(collectorInLab))
	c.api.Kubectl("apply", "-k", k.overlay)
	k.rolled()
	return k
}

// A node's port has one pod at a time, and who listens there on the node is not reached.
const collectorInLab = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [BASE]
patches:
  - target: {kind: Deployment}
    patch: |-
      - {op: add, path: /spec/strategy, value: {type: Recreate}}
      - {op: add, path: /spec/template/spec/containers/0/ports/0/hostPort, value: 4317}
      - {op: replace, path: /spec/template/spec/containers/0/env/0/value, value: SPANS}
`

// validate has the program look at its configuration, and the API server at the
// manifests, both as they are delivered: in a namespace of restricted pods these are
// to be fine.
func (k *realCollector) validate() {
	k.c.t.Helper()
	if _, err := k.c.r.Run(collectorProgram(k.c.t), "validate", "--config", collectorManifests+"/collector.yaml"); err != nil {
		k.c.t.Error(err)
	}
	k.c.api.Kubectl("create", "namespace", "observability")
	k.c.api.Kubectl("label", "namespace", "observability", "pod-security.kubernetes.io/warn=restricted")
	for _, dir := range []string{collectorManifests, collectorManifests + "/../tier"} {
		k.c.api.Kubectl("apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-k", dir)
	}
}

// goes ends the collector, which first sends what it has.
func (k *realCollector) goes() {
	k.c.t.Helper()
	k.kubectl("scale", "--replicas=0", "deployment/opentelemetry-collector")
	k.kubectl("wait", "--for=delete", "pod", "--selector=app.kubernetes.io/name=opentelemetry-collector", "--timeout=1m")
	k.before = k.c.spans.Total()
}

// comes starts it again.
func (k *realCollector) comes() {
	k.c.t.Helper()
	k.kubectl("scale", "--replicas=1", "deployment/opentelemetry-collector")
	k.rolled()
}

// toldOf holds that its metrics name these pods, and how long their starts took, each
// once.
func (k *realCollector) toldOf(pods ...string) {
	t := k.c.t
	t.Helper()
	page := k.page(8889)
	for _, pod := range pods {
		labels := []string{"k8s_namespace_name", "default", "k8s_pod_name", pod, "k8s_node_name", "lab", "grpc_tap_pod_outcome", "started"}
		k.c.Until("there is a metric of the start of "+pod, 2*eventuallyTime, func() bool {
			return page.value("pod_start_duration_seconds_count", labels...) > 0
		})
		if n := page.value("pod_start_duration_seconds_count", "k8s_pod_name", pod); n != 1 {
			t.Errorf("%s has started %v times", pod, n)
		}
		took := k.c.rootOf("pod start default/" + pod)
		want := time.Duration(took.GetEndTimeUnixNano() - took.GetStartTimeUnixNano()).Seconds()
		if got := page.value("pod_start_duration_seconds_sum", labels...); math.Abs(got-want) > 1e-6 {
			t.Errorf("the start of %s took %v s, and not %v", pod, got, want)
		}
	}
}

// passedOn holds that what it took since it was last started has arrived, and that it
// took all. The agents are to be at an end.
func (k *realCollector) passedOn() {
	k.c.t.Helper()
	page := k.page(8888)
	page.accept = "text/plain" // it has no other, and no _total in its counters' names
	k.c.Until("what the collector has taken has arrived", eventuallyTime, func() bool {
		taken, sent, arrived := page.value("otelcol_receiver_accepted_spans"), page.value("otelcol_exporter_sent_spans"), k.c.spans.Total()-k.before
		return taken > 0 && taken == sent && taken == float64(arrived)
	})
	for name, samples := range page.scrape() {
		if !strings.HasPrefix(name, "otelcol_") || !strings.Contains(name, "refused") && !strings.Contains(name, "failed") {
			continue
		}
		for _, s := range samples {
			if s.value != 0 {
				k.c.t.Errorf("%s%v is %v", name, s.labels, s.value)
			}
		}
	}
}
