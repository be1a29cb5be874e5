package span

import (
	"strings"
	"testing"
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
		if err := CheckEndpoint(s); err != nil {
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

func TestEndpointFromEnvironment(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4317") // the SDK would go to localhost in silence
	_, err := New(t.Context(), Options{})
	if err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_ENDPOINT") || !strings.Contains(err.Error(), "http://127.0.0.1:4317") {
		t.Errorf("error %v, want one that names the variable and what to write", err)
	}
	if got, _ := envEndpoint(env("OTEL_EXPORTER_OTLP_ENDPOINT=http://a:1,OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://b:1")); got != "http://b:1" {
		t.Errorf("endpoint %q, want the traces' own", got)
	}
}

func TestBadNumbersAreDefaults(t *testing.T) {
	for _, v := range []string{"", "-5", "0", "many"} {
		t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", v)
		if got := positiveEnv("OTEL_BSP_MAX_QUEUE_SIZE", 2048); got != 2048 {
			t.Errorf("%q: %d", v, got)
		}
	}
}
