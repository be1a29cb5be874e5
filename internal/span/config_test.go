package span

import (
	"strings"
	"testing"

	"github.com/grpc-tap/grpc-tap/internal/otlp"
)

func TestConfigured(t *testing.T) {
	for _, c := range []struct {
		flag, env string // env: K=V,K=V
		want      bool
	}{
		{"", "", false},
		{"h:1", "", true},
		{"h:1", "OTEL_SDK_DISABLED=true,OTEL_TRACES_EXPORTER=none", true},
		{"", "OTEL_EXPORTER_OTLP_ENDPOINT=http://h:1", true},
		{"", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://h:1", true},
		{"", "OTEL_EXPORTER_OTLP_ENDPOINT=http://h:1,OTEL_TRACES_EXPORTER=none", false},
		{"", "OTEL_EXPORTER_OTLP_ENDPOINT=http://h:1,OTEL_SDK_DISABLED=true", false},
		{"", "OTEL_TRACES_EXPORTER=otlp", true},
		{"", "OTEL_EXPORTER_OTLP_HEADERS=a=b", false},
	} {
		if got := Configured(c.flag, env(c.env)); got != c.want {
			t.Errorf("Configured(%q, %s) = %v", c.flag, c.env, got)
		}
	}
}

func env(list string) func(string) string {
	return func(k string) string {
		for _, kv := range strings.Split(list, ",") {
			if v, ok := strings.CutPrefix(kv, k+"="); ok {
				return v
			}
		}
		return ""
	}
}

func TestEndpoint(t *testing.T) {
	for _, s := range []string{"127.0.0.1:4317", "[::1]:4317", "otel-collector.monitoring.svc:4317"} {
		if err := otlp.CheckEndpoint(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"collector", "http://collector:4317", "collector:", ":4317", "collector:otlp", "collector:99999", "c:0", "::1:4317", "a b:1"} {
		_, err := New(t.Context(), Options{Endpoint: s})
		if err == nil {
			t.Errorf("%q was taken", s)
			continue
		}
		for _, want := range []string{"--otlp-endpoint", `"` + s + `"`, "127.0.0.1:4317"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: does not say %s", err, want)
			}
		}
	}
}
