package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// page is a program's metrics, as a scrape has them.
type page struct {
	t      testing.TB
	base   string // http://HOST:PORT
	accept string // the form to ask for
	client *http.Client
}

const openMetrics = "application/openmetrics-text;version=1.0.0" // Prometheus' newer form

var servesAt = regexp.MustCompile(`metrics at (http://\S+)/metrics`)

// pageOf is where a grpc-tap says that its metrics are.
func pageOf(tap *Tap) *page {
	tap.t.Helper()
	p := &page{t: tap.t, accept: openMetrics, client: http.DefaultClient}
	tap.Until("it says where its metrics are", eventuallyTime, func() bool {
		all := servesAt.FindAllStringSubmatch(tap.Said(), -1)
		if len(all) > 0 {
			p.base = all[len(all)-1][1] // an agent's settings may have changed
		}
		return len(all) > 0
	})
	return p
}

func (p *page) get(path, accept string) (int, string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), eventuallyTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	r.Close = true // nobody is to be kept by a connection that idles
	res, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// sample is a line of the page.
type sample struct {
	labels   map[string]string
	value    float64
	exemplar map[string]string // nil: none
}

var (
	sampleLine = regexp.MustCompile(`^(\w+)(?:\{(.*?)\})? ([-+.\w]+)(?: # \{(.*)\} .*)?$`)
	labelPair  = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// scrape reads the page, by the names of its samples.
func (p *page) scrape() map[string][]sample {
	p.t.Helper()
	code, body := p.get("/metrics", p.accept)
	if code != http.StatusOK || p.accept == openMetrics && !strings.HasSuffix(body, "# EOF\n") {
		p.t.Fatalf("/metrics: %d, %s", code, body)
	}
	all := map[string][]sample{}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := sampleLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			p.t.Fatalf("not a sample: %s", line)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			p.t.Fatalf("not a number: %s", line)
		}
		s := sample{labels: pairs(m[2]), value: value}
		if m[4] != "" {
			s.exemplar = pairs(m[4])
		}
		all[m[1]] = append(all[m[1]], s)
	}
	return all
}

func pairs(text string) map[string]string {
	all := map[string]string{}
	for _, m := range labelPair.FindAllStringSubmatch(text, -1) {
		all[m[1]] = m[2]
	}
	return all
}

// value sums up the samples of a name that have these labels, in pairs.
func (p *page) value(name string, labels ...string) (sum float64) {
	p.t.Helper()
	for _, s := range p.scrape()[name] {
		if has(s, labels) {
			sum += s.value
		}
	}
	return sum
}

func has(s sample, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		if s.labels[labels[i]] != labels[i+1] {
			return false
		}
	}
	return true
}

// until waits for a value.
func (p *page) until(want float64, name string, labels ...string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s %v is %v", name, labels, want), func() bool { return p.value(name, labels...) == want })
}

// lint holds the page against Prometheus' conventions: by the code of promtool check
// metrics, and by promtool itself where that is installed.
func (p *page) lint() {
	p.t.Helper()
	_, body := p.get("/metrics", "text/plain")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		p.t.Error(err)
	}
	for _, problem := range problems {
		p.t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		return
	}
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(body)
	if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		p.t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// counted are calls by method, code and error type.
func (p *page) counted() map[string]int {
	n := map[string]int{}
	for _, s := range p.scrape()["rpc_client_call_duration_seconds_count"] {
		n[s.labels["rpc_method"]+" "+s.labels["rpc_response_status_code"]+" "+s.labels["error_type"]] += int(s.value)
	}
	return n
}

// toldAs counts records as the page has to.
func toldAs(records []Record, known func(method string) bool) map[string]int {
	n := map[string]int{}
	for _, r := range records {
		method, failure := r.Service+"/"+r.Method, r.Code
		if !known(r.Service) {
			method = "_OTHER"
		}
		if strings.HasPrefix(r.Code, "CODE(") {
			r.Code, failure = "_OTHER", "_OTHER"
		}
		switch {
		case r.State == "lost":
			failure = "connection_lost"
		case r.Code == "OK":
			failure = ""
		}
		n[method+" "+r.Code+" "+failure]++
	}
	return n
}

// refuses starts a second grpc-tap for the same address, which can't be had.
func (p *page) refuses(listen string) {
	p.t.Helper()
	address := strings.TrimPrefix(p.base, "http://")
	began := time.Now()
	out, err := tap(p.t, "proxy", "--listen", listen+"2", "--upstream", listen, "--metrics-listen", address)
	if err == nil || !strings.Contains(out, "--metrics-listen "+address) || !strings.Contains(out, "address already in use; give another address") || time.Since(began) > eventuallyTime {
		p.t.Errorf("on an address that is in use: %v, %s", err, out)
	}
	if !absent(listen + "2") {
		p.t.Error("it had begun to serve")
	}
}
