package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/proxy"
	"github.com/grpc-tap/grpc-tap/internal/takeover"
	"github.com/grpc-tap/grpc-tap/internal/tap"
)

// visit is one path whose relay stands by itself: we come, read, and go, and it
// goes on. Where another relay takes its place, we go there.
type visit struct {
	endpoint
	cfg    tap.Config
	served func()
	stderr io.Writer

	seat  mirror.Seat
	seats []*seat // all that were had, the present one last
}

// seat is one stay with one relay.
type seat struct {
	conn   *net.UnixConn
	ahead  *mirror.Ahead
	reader *mirror.Reader
	hello  mirror.Hello
	tap    *tap.Tap
	ended  chan struct{} // closed when the connections that outlived the relay's detach have ended
}

func (v *visit) run(ctx context.Context) error {
	defer v.leave()
	v.seat = mirror.Read
	for {
		conn, err := v.await(ctx)
		if conn == nil || err != nil {
			return err
		}
		s, err := v.sit(conn)
		if err == nil {
			err = v.read(ctx, s)
		}
		if errors.Is(err, tap.ErrRelayGone) && ctx.Err() == nil {
			err = v.died(s.hello.PID)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil: // it has detached, or another took its place
		case errors.Is(err, tap.ErrOver):
			v.seat = mirror.StandBy
			v.say("another grpc-tap reads %s now; standing by for when it leaves", v.path)
		case !v.wait:
			return err
		default:
			v.say("%v; waiting for the next relay", err)
		}
	}
}

// died says what a relay's death means for its path.
func (v *visit) died(relay uint32) error {
	did := "is not given back; say `grpc-tap restore " + v.path + "`, or start its relay again"
	for end := time.Now().Add(restoredWithin); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		st, err := takeover.Read(v.path)
		if err == nil && !st.Taken || st.By != 0 && st.By != int(relay) {
			did = "was given back"
			break
		}
	}
	return fmt.Errorf("the relay (pid %d) died; connections were cut, %s %s", relay, v.path, did)
}

const (
	// lookFor is how long a relay may be away before we say that there is none: as
	// long as one needs to take another's place.
	lookFor = 3 * time.Second
	// lookEvery is how often it is looked for.
	lookEvery = 50 * time.Millisecond
)

// await waits for a relay that stands at the path, and knocks. Nil: ctx is done.
func (v *visit) await(ctx context.Context) (*net.UnixConn, error) {
	for end, said := time.Now().Add(lookFor), false; ; {
		conn, err := knock(v.path)
		switch {
		case conn != nil:
			return conn, nil
		case ctx.Err() != nil:
			return nil, nil
		case time.Now().Before(end):
		case !v.wait && err == nil:
			return nil, fmt.Errorf("no relay stands at %s any more", v.path)
		case !v.wait:
			return nil, err
		case !said:
			said = true
			v.say("no relay stands at %s; waiting for one", v.path)
		}
		t := time.NewTimer(lookEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// knock comes to the relay that stands at a path; nil: none does.
func knock(path string) (*net.UnixConn, error) {
	st, err := takeover.Read(path)
	if err != nil || st.Door == "" {
		return nil, err
	}
	return proxy.Knock(st.Door)
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
	v.seats = append(v.seats, s)
	return s, nil
}

// read reads until the relay detaches, or it is over. What remains at a relay that
// detached is read to its end, meanwhile.
func (v *visit) read(ctx context.Context, s *seat) error {
	stop := context.AfterFunc(ctx, s.goes)
	defer stop()
	err := s.tap.Run(s.reader, s.hello)
	if err == nil && ctx.Err() == nil {
		go s.finish()
		return nil
	}
	close(s.ended)
	s.close()
	return err
}

// goes says that we leave: what the relay still says then is its last.
func (s *seat) goes() {
	_ = s.conn.CloseWrite()
	_ = s.conn.SetReadDeadline(time.Now().Add(goodbye))
}

func (s *seat) finish() {
	defer close(s.ended)
	defer s.close()
	// Its end is that of the last connection, or our leaving.
	_ = s.tap.Run(s.reader, s.hello)
}

func (s *seat) close() {
	_ = s.conn.Close()
	s.ahead.Close()
}

// leave lets go of relays that still have connections.
func (v *visit) leave() {
	var leaving sync.WaitGroup
	for _, s := range v.seats {
		leaving.Go(func() { s.goes(); <-s.ended })
	}
	leaving.Wait()
}

func (v *visit) stats() (sum tap.Stats) {
	for _, s := range v.seats {
		sum.Add(s.tap.Stats())
	}
	return sum
}

func (v *visit) remains() string { return "" }

func (v *visit) saysServing(h mirror.Hello, upstream string) {
	v.seat = mirror.Read
	v.say("on %s, relayed by pid %d, which stands by itself; Ctrl-C leaves it there", v.path, h.PID)
	if upstream != "" {
		v.say("the upstream does not answer yet (%s); clients are closed at once until it does", upstream)
	}
	v.served()
}

func (v *visit) saysAway(_ mirror.Hello, why string) {
	v.say("off %s (%s); its relay waits for it", v.path, why)
}

func (v *visit) say(format string, args ...any) {
	fmt.Fprintf(v.stderr, "grpc-tap: "+format+"\n", args...)
}
