package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// mirrors is a relay that opens one connection, and is over.
func mirrors(t *testing.T) *net.UnixConn {
	t.Helper()
	ours, f, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	w, done := mirror.NewWriter(1<<20), make(chan struct{})
	w.Hello("/listen", "/upstream")
	w.Open(1, mirror.Peers{ClientPID: uint32(os.Getpid())})
	go func() { _ = w.WriteTo(c.(*net.UnixConn), done); _ = c.Close() }()
	go func() {
		_, _ = mirror.AwaitReady(c)
		w.Over()
		close(done)
	}()
	return ours
}

// A tap that is superseded and comes again for months keeps its counts, and
// nothing else.
func TestVisitKeepsNoSeats(t *testing.T) {
	v := &visit{stderr: &bytes.Buffer{}, served: func(mirror.Hello) {}}
	for range 3 {
		s, err := v.sit(mirrors(t))
		if err == nil {
			err = v.read(t.Context(), s)
		}
		if !errors.Is(err, tap.ErrOver) {
			t.Fatal(err)
		}
	}
	v.leave()
	if n := v.stats().Connections; len(v.seats) != 0 || n != 3 {
		t.Errorf("%d seats are kept, %d connections were counted", len(v.seats), n)
	}
}

// A relay that can't be read, maybe for good, is neither knocked at nor told of
// without end.
func TestVisitFails(t *testing.T) {
	var said bytes.Buffer
	v := &visit{stderr: &said, served: func(mirror.Hello) {}}
	ctx, cancel := context.WithTimeout(t.Context(), againAfter*5/2)
	defer cancel()
	tries := 0
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < 10*againAfter; tries++ {
		v.fails(ctx, errors.New("of another version"))
	}
	if n := strings.Count(said.String(), "of another version"); tries != 3 || n != 1 {
		t.Errorf("%d tries, told %d times", tries, n)
	}
}
