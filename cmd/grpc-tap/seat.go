package main

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// seat is one stay with one relay.
type seat struct {
	conn   *net.UnixConn
	ahead  *mirror.Ahead
	reader *mirror.Reader
	hello  mirror.Hello
	tap    *tap.Tap
	ended  chan struct{} // closed when the connections that outlived the relay's detach have ended
}

// sit takes a seat with a relay.
func (v *visit) sit(conn *net.UnixConn) (_ *seat, err error) {
	s := &seat{conn: conn, ahead: mirror.NewAhead(conn, mirror.DefaultAhead), ended: make(chan struct{})}
	if s.reader, s.hello, err = mirror.NewReader(s.ahead); err == nil {
		err = mirror.Ready(conn, v.seat)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	cfg := v.cfg
	cfg.Serving, cfg.Away = v.saysServing, v.saysAway
	cfg.Redial = func(n uint64) { _ = mirror.AskRedial(conn, n) } // one that is gone is seen by its end
	s.tap = tap.New(cfg)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seats == nil {
		v.seats = map[*seat]struct{}{}
	}
	v.seats[s] = struct{}{}
	return s, nil
}

// read reads until the relay detaches, or it is over. What remains at a relay that
// detached is read to its end, meanwhile.
func (v *visit) read(ctx context.Context, s *seat) error {
	stop := context.AfterFunc(ctx, s.goes)
	defer stop()
	err := s.tap.Run(s.reader, s.hello)
	if err == nil && ctx.Err() == nil {
		go v.finish(s)
		return nil
	}
	v.rise(s)
	return err
}

// goes says that we leave: what the relay still says then is its last.
func (s *seat) goes() {
	_ = s.conn.CloseWrite()
	_ = s.conn.SetReadDeadline(time.Now().Add(goodbye))
}

func (v *visit) finish(s *seat) {
	defer v.rise(s)
	// Its end is that of the last connection, or our leaving.
	_ = s.tap.Run(s.reader, s.hello)
}

// rise leaves a seat for good: of a tap that stays for months, with others that
// come and go, nothing but the counts is kept.
func (v *visit) rise(s *seat) {
	s.close()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.past.Add(s.tap.Stats())
	delete(v.seats, s)
	close(s.ended)
}

func (s *seat) close() {
	_ = s.conn.Close()
	s.ahead.Close()
}

// leave lets go of relays that still have connections.
func (v *visit) leave() {
	v.mu.Lock()
	left := slices.Collect(maps.Keys(v.seats))
	v.mu.Unlock()
	var leaving sync.WaitGroup
	for _, s := range left {
		leaving.Go(func() { s.goes(); <-s.ended })
	}
	leaving.Wait()
}

func (v *visit) stats() tap.Stats {
	v.mu.Lock()
	defer v.mu.Unlock()
	sum := v.past
	for s := range v.seats {
		sum.Add(s.tap.Stats())
	}
	return sum
}

func (v *visit) now() (n tap.Now) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for s := range v.seats {
		n.Add(s.tap.Now())
	}
	return n
}
