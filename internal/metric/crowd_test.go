package metric

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener without a network, so that time stands still while anybody can go on.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p <- theirs
	return ours, nil
}

// TestCrowd: however many connections others hold, who comes is answered at once. Others
// say nothing, half a request, or nothing after a first one.
func TestCrowd(t *testing.T) {
	for what, say := range map[string]string{"mute": "", "half": "GET /metr", "idle": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
		for _, many := range []int{maxConns, 200} {
			t.Run(what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { crowded(t, many, say, what == "idle") })
			})
		}
	}
}

func crowded(t *testing.T, many int, say string, answered bool) {
	lis := make(pipes, many+1)
	s := newForTest(t).Serve(lis, func() (string, error) { return "", nil }, func() error { return nil }, slog.New(slog.DiscardHandler))
	defer s.Close(t.Context())
	for range many {
		conn, _ := lis.dial(t.Context(), "", "")
		defer conn.Close()
		if say != "" {
			if _, err := io.WriteString(conn, say); err != nil {
				t.Fatal(err)
			}
		}
		if answered {
			if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
	}
	began := time.Now()
	client := http.Client{Transport: &http.Transport{DialContext: lis.dial, DisableKeepAlives: true}}
	for _, path := range []string{"/healthz", "/metrics"} {
		res, err := client.Get("http://page" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if took := time.Since(began); res.StatusCode != 200 || took != 0 {
			t.Errorf("beside %d: %s: %d, after %v", many, path, res.StatusCode, took)
		}
	}
}
