package main

import (
	"sync"
	"time"
)

// rival is another grpc-tap that came later to the same path, and reads in our stead.
type rival struct {
	mu    sync.Mutex
	reads bool
	left  time.Time
}

func (r *rival) comes() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads = true
}

// leaves says that we read again, if we did not.
func (r *rival) leaves() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reads {
		r.reads, r.left = false, time.Now()
	}
}

// there: it reads, or did until just now: where a relay takes the place of another, we
// may have come to the new one before it.
func (r *rival) there() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reads || time.Since(r.left) < lookFor
}
