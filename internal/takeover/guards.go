package takeover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// Guards is a guard's process that is a service of its own, of which nothing dies
// with a relay: it guards each relay that comes by the socket at path, until ctx is
// done and whoever it carries has left. serving is called once relays may come.
func Guards(ctx context.Context, path string, log *slog.Logger, serving func()) error {
	lis, err := proxy.ListenOwn("unixpacket", path)
	if err != nil {
		return fmt.Errorf("the guard's socket %s: %w", path, err)
	}
	defer lis.Shut()
	if err := lis.Open(); err != nil {
		return fmt.Errorf("the guard's socket %s: %w", path, err)
	}
	defer context.AfterFunc(ctx, lis.Shut)()
	serving()
	var guarding sync.WaitGroup
	defer guarding.Wait()
	for {
		c, err := lis.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			// No descriptor is left. Those that are guarded stay so, and who comes waits.
			log.Warn("no relay can come", "cause", err)
			time.Sleep(guardsPause)
		default:
			guarding.Go(func() { guardOne(ctx, c, log) })
		}
	}
}

// guardsPause is for descriptors to come back.
const guardsPause = 250 * time.Millisecond

// guardOne guards one relay to its end. When the service ends, the relay hears it,
// and finds another guard or gives its path back.
func guardOne(ctx context.Context, conn *net.UnixConn, log *slog.Logger) {
	c := &control{conn}
	defer c.close()
	defer context.AfterFunc(ctx, c.close)()
	if !proxy.Trusted(conn) {
		return
	}
	g := &guard{control: c, log: log, survives: apart}
	if err := g.guard(ctx); err != nil {
		log.Warn("a relay is not guarded", "cause", err)
	}
}

// apart says what could end this process and the relay together.
func apart(c charge) error {
	f, err := thisProcess()
	if err != nil {
		return err
	}
	ours, err := f.cgroups(f.pid)
	if err != nil {
		return err
	}
	theirs, err := f.cgroups(c.relay)
	if err != nil {
		return fmt.Errorf("the relay: %w; it and the guard's service must be in one pid namespace", err)
	}
	for _, h := range slices.Sorted(maps.Keys(ours)) {
		at, known := theirs[h]
		if known && !ours[h].root() && !at.root() && (ours[h].covers(at) || at.covers(ours[h])) {
			return fmt.Errorf("%s: the guard's service (cgroup %s) and the relay (%s) would be ended together; run them as two services", title(h), ours[h], at)
		}
	}
	return nil
}
