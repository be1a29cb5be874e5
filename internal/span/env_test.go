package span

import (
	"strings"
	"testing"
	"time"
)

func TestEndpointFromEnvironment(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4317") // the SDK would go to localhost in silence
	_, err := New(t.Context(), Options{})
	if err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_ENDPOINT") || !strings.Contains(err.Error(), "http://127.0.0.1:4317") {
		t.Errorf("error %v, want one that names the variable and what to write", err)
	}
	if _, got, _ := otlpOptions(Options{}, env("OTEL_EXPORTER_OTLP_ENDPOINT=http://a:1,OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://b:1")); got != "http://b:1" {
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

// "Never" is a time that does not fit a Duration, and no reason to crash.
func TestLongTimes(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "9223372036854775807")
	if got := envMilliseconds("OTEL_BSP_SCHEDULE_DELAY", 2000); got < 24*time.Hour {
		t.Errorf("%v", got)
	}
}
