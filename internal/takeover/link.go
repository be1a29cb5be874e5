package takeover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// A path of grpc-tap's own need never be dead: wherever no relay serves it, it is
// a symbolic link to the server's own socket. It is taken over like a path in use
// is, with the link in the place of the server's socket: what lies beside it while
// it is taken is the link, and giving it back is exchanging the two. No server
// binds there, and one that restarts is found by the link's text.

func (f *file) link() bool { return f != nil && f.mode&unix.S_IFMT == unix.S_IFLNK }

// readlink reads a link by its descriptor.
func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", fmt.Errorf("read the link: %w", err)
	}
	return string(buf[:n]), nil
}

// OpenLink finds the place of a path of our own, which is a link to upstream where
// it is not served.
func OpenLink(path, upstream string) (*Place, error) {
	p, err := openOwn(path)
	if err != nil {
		return nil, err
	}
	p.upstream = upstream
	if p.leadsHere(upstream) {
		p.Close()
		return nil, fmt.Errorf("%s: the upstream %s leads back to it; name the runtime's or driver's own socket", p.path, upstream)
	}
	return p, nil
}

// maxLinks is how many links in a row the kernel follows.
const maxLinks = 40

// leadsHere says whether a path is this place, by another name or over links: a
// link to it would be dead, and a relay there would call itself.
func (p *Place) leadsHere(path string) bool {
	for range maxLinks {
		dir, base := filepath.Split(path)
		if at, err := os.Stat(dir); err != nil {
			return false // nor anywhere else, yet
		} else if held, err := p.dir.Stat(); err == nil && base == p.base && os.SameFile(at, held) {
			return true
		}
		to, err := os.Readlink(path)
		if err != nil {
			return false
		}
		if path = to; !filepath.IsAbs(to) {
			path = dir + to // not cleaned: dir may be a link
		}
	}
	return true
}

// refuseLink says why a path of ours must not be taken; nil where nothing is, the
// link is, or a socket that nobody serves.
func (p *Place) refuseLink(at *file) error {
	switch {
	case at == nil:
		return nil
	case at.link() && at.target == p.upstream:
		return nil
	case at.link():
		return fmt.Errorf("%s is a link to %s, not to the upstream %s; remove it, or give that as --upstream", p.path, at.target, p.upstream)
	case !at.socket():
		return fmt.Errorf("%s: there is a file that is no socket; choose another path, or remove it", p.path)
	}
	lives, err := at.alive()
	if err == nil && lives {
		err = fmt.Errorf("%s: somebody serves it already (grpc-tap discover says who); end that, or choose another path", p.path)
	}
	return err
}

// putLink makes sure that the link is at a path of ours, in the place of nothing
// or of a dead socket: anything else is somebody's, and refused. At no moment is
// there nothing where something was.
func (p *Place) putLink() error {
	at, err := p.look(p.base)
	defer at.close()
	if err != nil {
		return err
	}
	if err := p.refuseLink(at); err != nil || at.link() {
		return err
	}
	first := newName()
	if err := unix.Symlinkat(p.upstream, p.fd(), first); err != nil {
		return fmt.Errorf("%s: make the link to %s: %w%s", p.path, p.upstream, err, mend(err, p))
	}
	if at != nil {
		return p.replaceByLink(first, at)
	}
	if err = p.rename(first, p.base); err == nil {
		return nil
	}
	_ = unix.Unlinkat(p.fd(), first, 0)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: %w", p.path, errChanged)
	}
	return p.noLink(err)
}

// replaceByLink puts the link, which is at first, in the place of a dead socket.
func (p *Place) replaceByLink(first string, dead *file) error {
	if err := p.exchange(first, p.base); err != nil {
		_ = unix.Unlinkat(p.fd(), first, 0)
		return p.noLink(err)
	}
	was, err := p.removeInPlace(first, dead.id)
	if err != nil || was {
		return err
	}
	// Another has come to the path meanwhile: that is its own again.
	if err := p.exchange(first, p.base); err != nil {
		return p.noLink(err)
	}
	_ = unix.Unlinkat(p.fd(), first, 0)
	return fmt.Errorf("%s: %w", p.path, errChanged)
}

func (p *Place) noLink(err error) error {
	return fmt.Errorf("%s: put the link to %s there: %w%s", p.path, p.upstream, err, mend(err, p))
}

// undoLink deals with a link beside the path, which is the one that was there.
func (u *undoing) undoLink(link *file) (done bool, _ Result, _ error) {
	at, err := u.look(u.base)
	if err != nil {
		return true, NotTaken, err
	}
	defer at.close()
	switch {
	case at == nil:
		u.rested = true // no server is about to bind there
		return u.bringBack()
	case u.isOf(at):
		if err := u.stranger(at, link); err != nil {
			return true, NotTaken, err
		}
		return u.giveBack(u.name, at, link)
	}
	done, err = u.remove(u.name, link.id) // the path is somebody's; ours it isn't
	return done, Cleaned, err
}

// upstreamPID is the pid of who serves the upstream; 0: nobody does, or it is in
// another pid namespace.
func (p *Place) upstreamPID() int {
	c, err := proxy.Dial(p.upstream)
	if err != nil {
		return 0
	}
	defer c.Close()
	pid, _ := proxy.Peer(c)
	return int(pid)
}

// imitateUpstream gives our socket the mode and owner of the upstream's. Without
// one it stays open to us alone.
func (t *taken) imitateUpstream() error {
	fd, err := unix.Open(t.place.upstream, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil // it is not there yet
	}
	up := &file{File: os.NewFile(uintptr(fd), filepath.Base(t.place.upstream))}
	defer up.close()
	if err := errors.Join(up.identify(), t.ours.identify()); err != nil {
		return err
	}
	if !up.socket() || up.mode == t.ours.mode && up.uid == t.ours.uid && up.gid == t.ours.gid {
		return nil
	}
	return imitate(t.ours, up)
}
