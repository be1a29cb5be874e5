package metric

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func TestAddress(t *testing.T) {
	for said, want := range map[string]string{
		"9464": "127.0.0.1:9464", "0": "127.0.0.1:0", ":9464": ":9464", "127.0.0.1:0": "127.0.0.1:0", "[::1]:9464": "[::1]:9464", "localhost:9464": "localhost:9464",
		"": "", "host": "", "host:": "", "host:http": "", "1:2:3": "", "70000": "", "-1": "", "http://host:1": "",
	} {
		got, err := Address(said)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q is %q, %v", said, got, err)
		}
	}
}

// page serves, and gets what is asked for.
type page struct {
	*gathered
	base  string
	but   string
	ready error
	alive error
	end   func()
}

func newPage(t *testing.T) *page {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{gathered: newForTest(t), base: "http://" + lis.Addr().String()}
	s := p.Serve(lis, func() (string, error) { return p.but, p.ready }, func() error { return p.alive }, slog.New(slog.DiscardHandler))
	p.end = func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Close(ctx)
		http.DefaultClient.CloseIdleConnections()
	}
	return p
}

func (p *page) get(method, path, accept string) (int, string, http.Header) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func TestPage(t *testing.T) {
	p := newPage(t)
	defer p.end()
	p.Records([]*call.Record{{State: call.Done, Code: "OK", Sampled: true, TraceID: strings.Repeat("a", 32), SpanID: strings.Repeat("b", 16)}})
	const exemplar = `trace_id="aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`
	for accept, want := range map[string]bool{"": false, "text/plain;version=0.0.4": false, "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.1": true} {
		code, body, header := p.get("GET", "/metrics", accept)
		if code != 200 || !strings.Contains(body, "rpc_client_call_duration_seconds_count") || strings.Contains(body, exemplar) != want ||
			strings.Contains(header.Get("Content-Type"), "openmetrics") != want || strings.HasSuffix(body, "# EOF\n") != want {
			t.Errorf("%q: %d %v\n%s", accept, code, header, body)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body, _ := p.get("GET", path, ""); code != 200 || body != "ok\n" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	p.but = ", but not all is seen"
	if code, body, _ := p.get("GET", "/readyz", ""); code != 200 || body != "ok, but not all is seen\n" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	p.ready = errors.New("/run/cri.sock: is not served yet")
	if code, body, _ := p.get("GET", "/readyz", ""); code != 503 || body != "/run/cri.sock: is not served yet\n" {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _, _ := p.get("GET", "/healthz", ""); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	p.alive = errors.New("it stands still")
	if code, body, _ := p.get("GET", "/healthz", ""); code != 503 || body != "it stands still\n" {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if code, _, _ := p.get("POST", "/metrics", ""); code != 405 {
		t.Errorf("POST: %d", code)
	}
	if code, _, _ := p.get("GET", "/debug/pprof/", ""); code != 404 {
		t.Errorf("/debug/pprof/: %d", code)
	}
}

// The end comes in time, also with a client that says nothing.
func TestCloseDoesNotWaitForClients(t *testing.T) {
	p := newPage(t)
	mute, err := net.Dial("tcp", strings.TrimPrefix(p.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	_, _ = mute.Write([]byte("GET /metrics HTTP/1.1\r\n")) // and no more
	_, _, _ = p.get("GET", "/healthz", "")
	began := time.Now()
	p.end()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(p.base, "http://")); err == nil {
		t.Error("somebody listens still")
	}
}
