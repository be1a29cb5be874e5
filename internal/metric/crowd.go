package metric

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// crowd is the page's connections, the one that was not heard of for longest first. That
// one is closed where there is one too many: whoever comes is served, however many say
// nothing, or say it slowly.
type crowd struct {
	mu  sync.Mutex
	all []net.Conn
}

// changed is for http.Server.ConnState. A connection is active from a request's first
// byte on.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.all, conn); at >= 0 {
		c.all = slices.Delete(c.all, at, at+1)
	} else if state != http.StateNew {
		return // it was closed by us
	}
	if state == http.StateClosed {
		return
	}
	if len(c.all) == maxConns {
		_ = c.all[0].Close()
		c.all = c.all[1:]
	}
	c.all = append(c.all, conn)
}
