package metric

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// What a client of the page may take of us. A scrape takes milliseconds.
const (
	maxConns     = 64
	maxScrapes   = 4               // at a time
	requestTime  = 5 * time.Second // also until the next one on the same connection
	responseTime = 30 * time.Second
	maxHeader    = 16 << 10
)

// Address makes of what a person said an address to listen on: HOST:PORT, or a port
// alone, which is served to this machine only.
func Address(said string) (string, error) {
	host, port, err := net.SplitHostPort(said)
	if err != nil {
		host, port = "127.0.0.1", said
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q is no address: give a port, which is served on 127.0.0.1, or HOST:PORT, such as :9464 for all addresses", said)
	}
	return net.JoinHostPort(host, port), nil
}

// Server serves the page.
type Server struct {
	http  http.Server
	ended chan struct{}
}

// Serve serves the page to who dials lis, until Close. ready says why we do not do
// what we were told to, nil if we do, and then what is to be known all the same, or "";
// alive, why we should be started anew.
func (m *Metrics) Serve(lis net.Listener, ready func() (but string, _ error), alive func() error, log *slog.Logger) *Server {
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: maxScrapes, ErrorLog: errorLog,
		ErrorHandling: promhttp.ContinueOnError, // what is there is better than nothing
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, "", alive()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		but, err := ready()
		answer(w, but, err)
	})
	var all crowd
	s := &Server{ended: make(chan struct{}), http: http.Server{
		Handler: mux, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), MaxHeaderBytes: maxHeader,
		ReadTimeout: requestTime, WriteTimeout: responseTime, ConnState: all.changed,
	}}
	go func() {
		defer close(s.ended)
		if err := s.http.Serve(lis); err != http.ErrServerClosed {
			log.Warn("metrics are not served any more", "cause", err)
		}
	}()
	return s
}

func answer(w http.ResponseWriter, but string, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "ok"+but)
}

// Close ends the serving; a scrape under way has until ctx is done.
func (s *Server) Close(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.ended
}
