package e2e

import (
	"errors"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

const (
	rulesTestFile    = "../../deploy/observability/prometheus/rules.test.yaml"
	observabilityDoc = "../../docs/observability.md"
)

// TestPromtool has Prometheus' own tool check what is delivered, and try each alert on
// hours of made-up samples.
func TestPromtool(t *testing.T) {
	l := lab.New(t)
	config := discovered(t, l, map[string]any{"job_name": "more"}, target{address: "127.0.0.1:1", port: "metrics"})
	for _, argv := range [][]string{{"check", "rules", rulesFile}, {"check", "config", config}, {"test", "rules", rulesTestFile}} {
		out, err := exec.Command("promtool", argv...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %s: %v\n%s\n%s", strings.Join(argv, " "), err, out, lab.Install)
		}
	}
}

// An alert's name, and in rules.test.yaml that it fires.
var (
	alertName = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
	ruleNames = regexp.MustCompile(`alertname="(\w+)", alertstate="firing"`)
)

// TestEveryAlert: each has a case in which it fires, and a place in the docs that says
// what to do.
func TestEveryAlert(t *testing.T) {
	fires := map[string]bool{}
	for _, m := range ruleNames.FindAllStringSubmatch(contentOf(t, rulesTestFile), -1) {
		fires[m[1]] = true
	}
	rules, doc := contentOf(t, rulesFile), contentOf(t, observabilityDoc)
	names := alertName.FindAllStringSubmatch(rules, -1)
	for _, m := range names {
		if !fires[m[1]] {
			t.Errorf("%s fires in no case of rules.test.yaml", m[1])
		}
		anchor := "docs/observability.md#" + strings.ToLower(m[1])
		if strings.Count(rules, anchor+"\n") != 1 || !strings.Contains(doc, "\n### "+m[1]+"\n") {
			t.Errorf("%s leads nowhere: %s", m[1], anchor)
		}
	}
	if len(names) < 8 {
		t.Errorf("%d alerts", len(names))
	}
}

// TestPrometheusRule runs the docs' command that makes the operator's object of the rules.
func TestPrometheusRule(t *testing.T) {
	_, rest, found := strings.Cut(contentOf(t, observabilityDoc), "<!-- PrometheusRule -->\n```\n")
	command, _, _ := strings.Cut(rest, "```\n")
	made := strings.TrimSuffix(strings.TrimSpace(command), "| kubectl apply -f -")
	if !found || made == command {
		t.Fatalf("docs/observability.md has no such command: %q", command)
	}
	sh := exec.Command("sh", "-c", made)
	sh.Dir = "../.."
	out, err := sh.Output()
	if err != nil {
		t.Fatal(err)
	}
	var object struct {
		APIVersion, Kind string
		Metadata         struct{ Name, Namespace string }
		Spec             map[string]any
	}
	var rules map[string]any
	err = errors.Join(yaml.Unmarshal([]byte(contentOf(t, rulesFile)), &rules), yaml.UnmarshalStrict(out, &object))
	if err != nil || object.Kind != "PrometheusRule" || object.Metadata.Name == "" || len(rules) == 0 || !reflect.DeepEqual(object.Spec, rules) {
		t.Errorf("%v: %s", err, out)
	}
}
