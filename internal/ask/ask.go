// Package ask asks the servers behind a node's sockets what the calls that pass
// have not told: a runtime which pods and containers there are, a driver for its
// name, and the kubelet's files which pod has which volume.
//
// Its rule: what passes comes first. It asks little (Version or GetPluginInfo where
// none has passed, lists where none has, and when somebody unknown turns up, at most
// every ten seconds), changes nothing, and goes to the server itself, past the relay: a tap
// sees nothing of it. Of an answer that is an error only the code is logged.
package ask

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/status"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
	"github.com/grpc-tap/grpc-tap/internal/identity"
)

const (
	// first is how long what passes has to tell by itself. A record that lacks a name
	// waits longer.
	first = time.Second / 2
	// listEvery and readEvery are how often lists are asked for, and the kubelet's
	// files read, at most.
	listEvery = 10 * time.Second
	readEvery = time.Second
	// again is how long a server that did not answer is left alone.
	again = 10 * time.Second
)

// Asker asks for the taps of a node together.
type Asker struct {
	pods     *identity.Map
	learn    func(*schema.Listed, schema.Facts)
	kubelets []string
	log      *slog.Logger
	// Own says where the server of a path listens itself, where a relay has the path.
	// It may be nil, and is set before Run.
	Own func(path string) string

	served, wake chan struct{}
	volume       atomic.Bool   // the stranger is known by a volume
	every        time.Duration // listEvery
	listed, read time.Time

	mu      sync.Mutex
	servers map[string]*server // by the path that clients dial
}

// New makes an Asker. learn is handed what lists tell; kubelets are directories where
// a kubelet may have its files.
func New(pods *identity.Map, learn func(*schema.Listed, schema.Facts), kubelets []string, log *slog.Logger) *Asker {
	return &Asker{pods: pods, learn: learn, kubelets: kubelets, log: log,
		every: listEvery, served: make(chan struct{}, 1), wake: make(chan struct{}, 1), servers: map[string]*server{}}
}

// Served says that a socket is served, and where its server itself listens.
func (a *Asker) Served(socket, upstream string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.servers[socket]; s == nil || s.upstream != upstream {
		a.servers[socket] = &server{socket: socket, upstream: upstream}
		signal(a.served)
	}
}

// Strange says that a call is about somebody whom nobody knows. It does not wait, and
// keeps nothing of the record.
func (a *Asker) Strange(r *call.Record) {
	if strings.HasPrefix(r.Service, "csi.") {
		a.volume.Store(true)
	}
	signal(a.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run asks until ctx is done.
func (a *Asker) Run(ctx context.Context) {
	var due <-chan time.Time // when those who have not said who they are, are asked
	var later <-chan time.Time
	heard := 0 // of lists, at the last stranger
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-a.served:
			if due == nil {
				due = time.After(first)
			}
		case <-due:
			due = nil
			if a.meet(ctx); len(a.known(unknown)) > 0 {
				due = time.After(again)
			}
			if a.pods.Lists() == 0 {
				a.list(ctx)
			}
			a.readVolumes()
		case <-a.wake:
			if a.volume.Swap(false) {
				a.readVolumes()
			}
			a.list(ctx)
			heard = a.pods.Lists()
			if later == nil {
				later = time.After(a.every)
			}
		case <-later:
			// A sandbox is made after its volumes: who was not in that list is in the next.
			later = nil
			if a.pods.Lists() == heard { // and none has passed
				a.list(ctx)
			}
		}
	}
}

// meet asks the servers that have not said who they are by the time they had.
func (a *Asker) meet(ctx context.Context) {
	for _, s := range a.known(unknown) {
		switch a.pods.Named(s.socket) {
		case runtimeService:
			s.kind = runtime
		case identityService:
			s.kind = driver
		case "":
			if err := a.greet(ctx, s); err != nil {
				a.log.Debug("a server was asked for its name and did not answer", "socket", s.socket, "code", status.Code(err))
			}
		default:
			s.kind = neither
		}
	}
}

// list asks the runtimes for their pods and containers.
func (a *Asker) list(ctx context.Context) {
	all := a.known(runtime)
	if len(all) == 0 || time.Since(a.listed) < a.every {
		return
	}
	a.listed = time.Now()
	for _, s := range all {
		for _, method := range []string{"ListPodSandbox", "ListContainers"} {
			if err := a.learnList(ctx, s, method); err != nil {
				a.log.Debug("a runtime was asked for what it runs and did not answer", "socket", s.socket, "method", method, "code", status.Code(err))
			}
		}
	}
}

func (a *Asker) readVolumes() {
	if time.Since(a.read) < readEvery {
		return
	}
	a.read = time.Now()
	for _, dir := range a.kubelets {
		if err := a.pods.ReadVolumes(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.log.Debug("the kubelet's files do not say all about its volumes", "dir", dir, "cause", err)
		}
	}
}

// known are the servers of a kind, by socket. What a server is, Run alone changes.
func (a *Asker) known(k kind) []*server {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.DeleteFunc(slices.Collect(maps.Values(a.servers)), func(s *server) bool { return s.kind != k })
	slices.SortFunc(all, func(a, b *server) int { return strings.Compare(a.socket, b.socket) })
	return all
}
