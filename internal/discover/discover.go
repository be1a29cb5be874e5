// Package discover finds the gRPC sockets of this node: where they are, what
// they speak, and which processes serve them and are connected to them.
//
// The rule: nothing that it does changes anything. A socket is dialled once,
// greeted as HTTP/2, and asked for its name at most (CRI Version, CSI
// GetPluginInfo); sockets between the kubelet and its device and registration
// plugins are greeted only, ttrpc sockets not even dialled. Who serves is what
// the kernel says of the file that lies at a path now; no name is trusted, since
// a takeover renames sockets and drivers bind theirs in mount namespaces of
// their own. What can't be told is said to be so, not guessed.
package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Config says where to look. Its zero value is a node's usual places.
type Config struct {
	// Root is put before every well-known path. It is the test seam: symbolic
	// links below it are followed as the machine's.
	Root string
	// KubeletDir is the kubelet's --root-dir; "" means the usual ones.
	KubeletDir string
	// Ask is how long one socket may take to answer all that it is asked; 0
	// means two seconds.
	Ask time.Duration

	diag diagnose // how to ask the kernel; nil: unix_diag. A test seam
}

// Kind is what a socket is for.
type Kind string

// The kinds, in the order in which sockets are listed.
const (
	CRI          Kind = "cri"           // a container runtime's
	CSI          Kind = "csi"           // a storage driver's
	DevicePlugin Kind = "device-plugin" // the kubelet's and its device plugins'
	Registration Kind = "registration"  // where plugins tell the kubelet of themselves
	PodResources Kind = "pod-resources" // the kubelet's, for monitoring agents
	Other        Kind = "other"
)

var kinds = []Kind{CRI, CSI, DevicePlugin, Registration, PodResources, Other}

// Socket is one socket and who serves it.
type Socket struct {
	Path string // without symbolic links
	// Kind follows from the place, and for CRI, CSI and Other from what the
	// server said where it did: a containerd without its CRI plugin is Other.
	Kind Kind
	// Speaks is "CRI v1", "CSI", "gRPC" for HTTP/2 that is neither, "ttrpc",
	// "unknown" where somebody accepts and does not greet as HTTP/2, and ""
	// where nobody answers.
	Speaks        string
	Name, Version string    // of the runtime or driver, in its own words
	Servers       []Process // who holds the listening socket, by pid
	Dead          bool      // nobody listens: a leftover
	Err           error     // why something of the above could not be told
}

// Sockets lists the sockets in the well-known places, by kind and path, each
// once whatever leads to it. Files whose name begins with a dot are left out:
// they are somebody's temporary ones, and ours. An error names the places that
// could not be read; what was found beside them is returned too.
func (c Config) Sockets(ctx context.Context) ([]Socket, error) {
	l := c.look(ctx)
	defer l.close()
	c.askAll(ctx, l.found)
	c.findServers(l.found)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sockets := make([]Socket, 0, len(l.found))
	for _, f := range l.found {
		sockets = append(sockets, f.Socket)
	}
	slices.SortFunc(sockets, func(a, b Socket) int {
		return cmp.Or(
			cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
			cmp.Compare(a.Path, b.Path))
	})
	return sockets, errors.Join(l.errs...)
}

// Found lists the sockets in the well-known places and asks none of them anything:
// of each its path, and its kind by its place. It is cheap enough for every second.
func (c Config) Found(ctx context.Context) ([]Socket, error) {
	l := c.look(ctx)
	defer l.close()
	sockets := make([]Socket, 0, len(l.found))
	for _, f := range l.found {
		sockets = append(sockets, f.Socket)
	}
	return sockets, errors.Join(append(l.errs, ctx.Err())...)
}

// Inspect tells of the socket at one path, in a well-known place or not.
func (c Config) Inspect(ctx context.Context, path string) (Socket, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Socket{}, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return Socket{}, err
	}
	file, err := openSocket(path, readMounts())
	if err != nil {
		return Socket{}, err
	}
	defer file.close()
	f := &candidate{Socket: Socket{Path: path, Kind: c.kindOf(path)}, file: file}
	c.ask(ctx, f)
	c.findServers([]*candidate{f})
	return f.Socket, ctx.Err()
}

// candidate is a socket while it is looked into.
type candidate struct {
	Socket
	file *socketFile
	// creator made the listening socket; 0: not known. It may have ended since,
	// with the socket living on in others, and its pid may be another's by now.
	creator int
}

// note adds to what could not be told.
func (f *candidate) note(err error) { f.Err = errors.Join(f.Err, err) }

// atOnce is how many sockets are asked at a time: enough that a few that hang
// hold nobody up, and no burst of dials.
const atOnce = 8

func (c Config) askAll(ctx context.Context, found []*candidate) {
	var asking sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, f := range found {
		places <- struct{}{}
		asking.Go(func() {
			c.ask(ctx, f)
			<-places
		})
	}
	asking.Wait()
}

func (c Config) patience() time.Duration { return cmp.Or(c.Ask, 2*time.Second) }

var errSilent = errors.New("somebody listens, but does not greet as an HTTP/2 server does")

func tooLong(d time.Duration) error {
	return fmt.Errorf("somebody listens, but did not answer within %v", d)
}
