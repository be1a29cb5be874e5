package takeover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// stand is the life of a relay that outlives its taps: they come and go by its
// door, and where none comes for long, it gives the path back and ends. It takes
// the place of a relay that stands there already.
func (r *relay) stand(ctx context.Context) error {
	if err := r.find(); err != nil {
		return err
	}
	err := r.enter(ctx)
	for end := time.Now().Add(buryWithin); errors.Is(err, errDying) && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(buryWithin / 100)
		err = r.enter(ctx)
	}
	if err != nil {
		return err
	}
	over := make(chan struct{})
	serving := make(chan struct{})
	go func() { defer close(serving); r.host(over) }()
	why := r.run(ctx)
	close(over)
	r.part(why)
	r.taps.Close()
	r.door.Close()
	<-serving
	return r.failed
}

// buryWithin is how long the guard of a relay that died may take to give the path
// back, and the lock.
const buryWithin = 5 * time.Second

// enter takes the place of the relay that stands at the path, or that of none.
func (r *relay) enter(ctx context.Context) error {
	old, err := r.place.standing()
	if err != nil {
		return err
	}
	if old != nil {
		return r.succeed(ctx, old)
	}
	if err := r.claim(); err != nil {
		return err
	}
	return r.openDoor()
}

func (r *relay) openDoor() (err error) {
	if r.door, err = proxy.MakeDoor(r.cfg.Door); err == nil {
		err = r.door.Open()
	}
	return err
}

// host lets taps in, and a relay that takes our place, until over.
func (r *relay) host(over <-chan struct{}) {
	r.door.Serve(r.taps, func(c *net.UnixConn) {
		select {
		case r.successor <- c:
		case <-over:
			_ = c.Close()
		}
	})
}

// part ends what run has kept.
func (r *relay) part(why string) {
	r.door.Shut()
	if why == handedOver {
		r.passOn()
		return
	}
	r.detach(why)
}

// orphaned says that no tap reads any more, and for how long.
func (r *relay) orphaned() error {
	reads, since := r.taps.Reading()
	if r.door == nil || r.cfg.Orphan == 0 || reads || time.Since(since) < r.cfg.Orphan {
		return nil
	}
	return fmt.Errorf("no tap came for %v", r.cfg.Orphan)
}
