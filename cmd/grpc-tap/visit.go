package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
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
	*condition
	cfg    tap.Config
	served func(mirror.Hello)
	stderr io.Writer
	absent func() string // why no relay stands there; nil: we start none

	seat   mirror.Seat
	rival  rival
	failed string // what was said last of a relay that is not there, or can't be read

	mu    sync.Mutex
	seats map[*seat]struct{} // that are had: the present one, and those with relays that have detached
	past  tap.Stats          // of those that were had
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
			v.turned("", "no relay is read there")
		}
		if errors.Is(err, tap.ErrRelayGone) && ctx.Err() == nil {
			v.turned(pathDied, "its relay has died")
			err = v.died(s.hello.PID)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil: // it has detached, or another took its place
		case errors.Is(err, tap.ErrOver):
			v.seat = mirror.StandBy
			v.rival.comes()
			v.turned("", "another grpc-tap reads it")
			v.say("another grpc-tap reads %s now; standing by for when it leaves", v.path)
		case !v.wait:
			return err
		default:
			v.fails(ctx, err)
		}
	}
}

// againAfter is how long it is waited after a failure, which may be for good: the
// relay may be of another version.
const againAfter = time.Second

// fails says why a relay can't be read, once in a row.
func (v *visit) fails(ctx context.Context, err error) {
	if said := err.Error(); said != v.failed {
		v.failed = said
		v.say("%v; waiting for the next relay", err)
	}
	within(againAfter, ctx.Done())
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
	every := lookEvery
	for end := time.Now().Add(lookFor); ; {
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
		default:
			every = againAfter // it may be days
			v.misses()
		}
		within(every, ctx.Done())
	}
}

// misses says that no relay stands at the path, and why as soon as that is known.
func (v *visit) misses() {
	said, why := "no relay stands at "+v.path, ""
	if v.absent != nil {
		why = v.absent()
	}
	if why != "" {
		said += ": " + why
		v.turned("", "no relay stands there: "+why)
	}
	if v.failed == "" || why != "" && said != v.failed {
		v.failed = said
		v.say("%s; waiting for one", said)
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

// ready is as for any path, but where a relay is waited for, there need not be one:
// the server may be gone for good.
func (v *visit) ready() error {
	if _, err := os.Lstat(v.path); v.wait && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return v.condition.ready()
}

func (v *visit) remains() string { return "" }

func (v *visit) saysServing(h mirror.Hello, upstream string) {
	v.seat, v.failed = mirror.Read, ""
	v.rival.leaves()
	v.turned(pathJoined, "")
	leaves := "; Ctrl-C leaves it there"
	if v.wait { // a service's
		leaves = ""
	}
	v.say("on %s, relayed by pid %d, which stands by itself%s", v.path, h.PID, leaves)
	if upstream != "" {
		v.say("the upstream does not answer yet (%s); clients are closed at once until it does", upstream)
	}
	v.served(h)
}

func (v *visit) saysAway(_ mirror.Hello, why string) {
	v.turned(pathAway, "its relay is off it ("+why+")")
	v.say("off %s (%s); its relay waits for it", v.path, why)
}

func (v *visit) say(format string, args ...any) {
	fmt.Fprintln(v.stderr, "grpc-tap: "+shown(fmt.Sprintf(format, args...)))
}
