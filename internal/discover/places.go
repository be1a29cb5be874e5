package discover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// runtimes are the CRI sockets of the distributions.
var runtimes = []string{
	"/run/containerd/containerd.sock",                // kubeadm, EKS, GKE, AKS, kind, Talos
	"/run/k3s/containerd/containerd.sock",            // k3s, RKE2
	"/run/k0s/containerd.sock",                       // k0s
	"/var/snap/microk8s/common/run/containerd.sock",  // microk8s
	"/run/crio/crio.sock", "/var/run/crio/crio.sock", // CRI-O
	"/run/cri-dockerd.sock", "/var/run/cri-dockerd.sock",
}

// others are sockets with gRPC that are of no kind of ours.
var others = []string{
	"/var/lib/rancher/k3s/server/kine.sock", // etcd's API, before k3s' database
}

// kubeletDirs are where kubelets keep their plugins.
var kubeletDirs = []string{
	"/var/lib/kubelet",
	"/var/lib/k0s/kubelet",
	"/var/snap/microk8s/common/var/lib/kubelet",
}

// place is a socket's path, or a directory that holds sockets.
type place struct {
	kind  Kind
	path  string
	depth int // levels of names below a directory; 0: the path is the socket's
}

func (c Config) places() []place {
	var all []place
	for _, p := range runtimes {
		all = append(all, place{kind: CRI, path: p})
	}
	for _, d := range c.Kubelets() {
		all = append(all,
			// plugins/DRIVER/csi.sock; some drivers put it a level higher or deeper.
			place{CSI, filepath.Join(d, "plugins"), 3},
			place{DevicePlugin, filepath.Join(d, "device-plugins"), 1},
			place{Registration, filepath.Join(d, "plugins_registry"), 1},
			place{PodResources, filepath.Join(d, "pod-resources"), 1})
	}
	for _, p := range others {
		all = append(all, place{kind: Other, path: p})
	}
	for i := range all {
		all[i].path = filepath.Join(c.Root, all[i].path)
	}
	return all
}

// Kubelets are the directories where a kubelet may have its files.
func (c Config) Kubelets() []string {
	if c.KubeletDir != "" {
		return []string{c.KubeletDir}
	}
	return kubeletDirs
}

// Places says where Sockets looks, for a person to read.
func (c Config) Places() []string {
	var paths []string
	for _, p := range slices.Concat(runtimes, others) {
		paths = append(paths, filepath.Join(c.Root, p))
	}
	for _, d := range c.Kubelets() {
		paths = append(paths, filepath.Join(c.Root, d, "{plugins,device-plugins,plugins_registry,pod-resources}"))
	}
	return paths
}

// kindOf is what a resolved path says of its socket.
func (c Config) kindOf(path string) Kind {
	// These three by their directory's name, wherever the kubelet's is: they are
	// not to be asked anything by mistake.
	switch filepath.Base(filepath.Dir(path)) {
	case "device-plugins":
		return DevicePlugin
	case "plugins_registry":
		return Registration
	case "pod-resources":
		return PodResources
	}
	for _, p := range c.places() {
		real, err := filepath.EvalSymlinks(p.path)
		if err == nil && (path == real || p.depth > 0 && strings.HasPrefix(path, real+"/")) {
			return p.kind
		}
	}
	return Other
}

// Dirs are the directories in which Sockets looks, as far as they are there,
// each once and without symbolic links.
func (c Config) Dirs() []string {
	l := c.look(context.Background())
	l.close()
	return l.dirs
}

// looker goes through the places and opens their sockets, each once.
type looker struct {
	ctx    context.Context
	mounts *mounts
	seen   map[[2]uint64]bool // by device and inode
	found  []*candidate
	dirs   []string
	errs   []error
}

func (c Config) look(ctx context.Context) *looker {
	l := &looker{ctx: ctx, mounts: readMounts(), seen: map[[2]uint64]bool{}}
	for _, p := range c.places() {
		dir, name := p.path, ""
		if p.depth == 0 {
			dir, name = filepath.Split(p.path)
		}
		dir, err := filepath.EvalSymlinks(dir)
		switch {
		case err != nil:
			l.failed(err)
		case p.depth == 0:
			l.enter(dir)
			l.link(p.kind, filepath.Join(dir, name))
		default:
			l.walk(p.kind, dir, p.depth)
		}
	}
	return l
}

func (l *looker) close() {
	for _, f := range l.found {
		f.file.close()
	}
}

func (l *looker) enter(dir string) {
	if !slices.Contains(l.dirs, dir) {
		l.dirs = append(l.dirs, dir)
	}
}

// failed keeps an error, unless it says that there is nothing, or no more: where
// a directory should be, a file is nothing.
func (l *looker) failed(err error) {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		l.errs = append(l.errs, err)
	}
}

func (l *looker) walk(kind Kind, dir string, levels int) {
	if l.ctx.Err() != nil {
		return
	}
	l.enter(dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		l.failed(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch t := e.Type(); {
		case strings.HasPrefix(e.Name(), "."):
		case t == fs.ModeSocket, t == fs.ModeSymlink:
			l.link(kind, path)
		case t == fs.ModeDir && levels > 1 && e.Name() != "kubernetes.io" && !l.mounts.points[path]:
			// Below kubernetes.io, and wherever else something is mounted, are
			// volumes: not sockets, and a read there may hang with its server.
			l.walk(kind, path, levels-1)
		}
	}
}

// link adds the socket that path is or leads to, if it does.
func (l *looker) link(kind Kind, path string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		if !errors.As(err, new(*fs.PathError)) { // a loop's does not say where
			err = fmt.Errorf("%s: %w", path, err)
		}
		l.failed(err)
		return
	}
	if fi, err := os.Lstat(real); err != nil || fi.Mode().Type() != fs.ModeSocket {
		return
	}
	l.add(kind, real)
}

func (l *looker) add(kind Kind, path string) {
	file, err := openSocket(path, l.mounts)
	if err != nil {
		l.failed(err)
		return
	}
	if l.seen[file.inode] {
		file.close()
		return
	}
	l.seen[file.inode] = true
	l.found = append(l.found, &candidate{Socket: Socket{Path: path, Kind: kind}, file: file})
}

// ErrNotSocket is Inspect's for a path where something else lies.
var ErrNotSocket = errors.New("not a socket")

func notSocket(path string) error { return fmt.Errorf("%s: %w", path, ErrNotSocket) }
