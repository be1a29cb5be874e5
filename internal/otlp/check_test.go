package otlp

import (
	"strings"
	"testing"
)

// What a variable holds may be a secret, also where it holds it wrongly: nobody says it.
func TestBadVariablesAreNotTold(t *testing.T) {
	for name, values := range map[string][]string{
		"ENDPOINT": {"http://user:canary@collector:4317/%zz"},
		"HEADERS":  {"authorization: Bearer canary", "a=b,canary", "key=canary%zz", "Bearer canary=", "=canary"},
	} {
		for _, signal := range []string{"", "METRICS_"} {
			for _, v := range values {
				variable := "OTEL_EXPORTER_OTLP_" + signal + name
				err := check(Metrics, func(k string) string { return map[string]string{variable: v}[k] })
				if err == nil || !strings.HasPrefix(err.Error(), variable) || strings.Contains(err.Error(), "canary") {
					t.Errorf("%s=%s: %v", variable, v, err)
				}
			}
		}
	}
	env := func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "authorization: Bearer canary"}[name]
	}
	if _, err := (Flags{Endpoint: "collector:4317"}).Collector(Traces, env); err == nil {
		t.Error("headers that would not be sent are taken")
	}
	for _, v := range []string{"", "authorization=Bearer%20x", " a = b ,c=d=e,", "x-empty="} {
		if err := check(Traces, func(k string) string { return map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": v}[k] }); err != nil {
			t.Errorf("%q: %v", v, err)
		}
	}
}
