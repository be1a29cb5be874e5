package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

var (
	metricsAt = regexp.MustCompile(`metrics at (http://\S+)`)
	callCount = regexp.MustCompile(`(?m)^rpc_client_call_duration_seconds_count\{.*\} (\d+)$`)
)

// everyMetric is the page of the grpc-tap that writes this stderr, in each of its
// forms, once so many calls are counted there.
func everyMetric(t *testing.T, stderr string, calls int) []byte {
	said, err := os.ReadFile(stderr)
	must(t, err)
	at := metricsAt.FindSubmatch(said)
	if at == nil {
		t.Fatalf("it does not say where its metrics are: %s", said)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		page, counted := getPage(t, string(at[1]), "text/plain"), 0
		for _, m := range callCount.FindAllSubmatch(page, -1) {
			n, _ := strconv.Atoi(string(m[1]))
			counted += n
		}
		switch {
		case counted == calls:
			return slices.Concat(page, getPage(t, string(at[1]), "application/openmetrics-text"),
				getPage(t, string(at[1]), "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"))
		case time.Now().After(end):
			t.Fatalf("%d of %d calls are counted", counted, calls)
		}
	}
}

func getPage(t *testing.T, url, accept string) []byte {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	r.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(r)
	must(t, err)
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	must(t, err)
	return page
}
