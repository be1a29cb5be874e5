package span

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// vanishing is the way to a collector whose node vanishes once: connections stay open,
// and nothing passes on them any more. Later ones are as they should be.
type vanishing struct {
	net.Listener
	to   string
	gone atomic.Pointer[chan struct{}] // closed: those that there are pass nothing
	wg   sync.WaitGroup
}

func vanishes(t *testing.T, to string) *vanishing {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &vanishing{Listener: l, to: to}
	v.gone.Store(new(make(chan struct{})))
	v.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			v.wg.Go(func() { v.carry(c) })
		}
	})
	t.Cleanup(func() { l.Close(); v.wg.Wait() })
	return v
}

func (v *vanishing) vanish() { close(*v.gone.Swap(new(make(chan struct{})))) }

func (v *vanishing) carry(client net.Conn) {
	defer client.Close()
	gone := *v.gone.Load()
	server, err := net.Dial("tcp", v.to)
	if err != nil {
		return
	}
	defer server.Close()
	back := make(chan struct{})
	go func() { defer close(back); pass(client, server, gone); client.Close() }()
	pass(server, client, gone)
	server.Close()
	<-back
}

func pass(to io.Writer, from io.Reader, gone <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-gone:
		default:
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// TestCollectorVanishes: where a collector's node vanishes without a word, another
// connection is tried within a minute, not when TCP gives up after a quarter of an hour.
func TestCollectorVanishes(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")
	c := startCollector(t)
	way := vanishes(t, c.addr)
	e := newExporter(t, Options{Endpoint: way.Addr().String(), Insecure: true, Log: (&lines{}).logger()})
	record(e, version())
	settled(t, e)
	if n := e.Stats().Exported; n != 1 {
		t.Fatalf("%d spans exported before", n)
	}
	way.vanish()
	for end := time.Now().Add(2 * time.Minute); e.Stats().Exported == 1; {
		if time.Now().After(end) {
			t.Fatalf("no other connection is tried: %+v", e.Stats())
		}
		record(e, version())
		settled(t, e)
	}
}
