package takeover

// What `grpc-tap doctor` asks before anybody takes anything over. Nothing of
// what is looked at is changed; where only a trial would tell, it is made on
// files and processes of our own.

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/proxy"
)

// Traces are what grpc-tap has left, or has, at a path and beside it.
type Traces struct {
	Status
	// Lock is the lock file, "" where there is none, and Locked why it can't be
	// told who holds it: then By is 0 whoever does.
	Lock   string
	Locked error
	// Astray: the server answers, and not at its path, which is a relay's that
	// nobody serves, or nobody's. Clients are refused until it is restored.
	Astray bool
}

// Any says whether there is anything of grpc-tap's.
func (t Traces) Any() bool { return t.Taken || t.By != 0 || t.Lock != "" || len(t.Left) > 0 }

// Trace reads how a path stands, whether anything lies there or not.
func Trace(path string) (t Traces, err error) {
	p, err := Open(path)
	if err != nil {
		return t, err
	}
	defer p.Close()
	if t.Status, err = Read(p.path); err != nil {
		return t, err
	}
	switch _, err := os.Lstat(p.at(p.lockName())); {
	case err == nil:
		t.Lock = p.name(p.lockName())
		t.Locked = unreadable(p.at(p.lockName()))
	case !errors.Is(err, fs.ErrNotExist):
		t.Locked = cause(err)
	}
	at, err := p.look(p.base)
	if err != nil {
		return t, err
	}
	defer at.close()
	answers, err := at.alive()
	t.Astray = err == nil && len(t.Left) > 0 && !answers && p.serverBeside()
	return t, nil
}

func unreadable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return cause(err)
	}
	_ = f.Close()
	return nil
}

// serverBeside says whether a socket that answers, and is not one of ours, lies
// beside the path.
func (p *Place) serverBeside() bool {
	names, err := p.neighbours()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool {
		f, err := p.look(name)
		if err != nil || f == nil {
			return false
		}
		defer f.close()
		lives, err := f.alive()
		return name != p.neighbour("-"+f.String()) && err == nil && lives
	})
}

// Site is what of a socket's place decides whether it can be taken over.
type Site struct {
	UID, GID   int    // the socket's owner, which the relay's socket is given
	Write      error  // why no names can be made or exchanged in its directory; nil: they can, as far as access(2) tells
	Mounted    bool   // the socket is a mount point, which can't be renamed
	FileSystem string // the name of one that may not exchange two names; "": of no such
	Full       bool   // its file system has no room for another file
	// Recognised: its file system tells a file from a later one with the same
	// inode number.
	Recognised bool
	Server     int // its pid as the kernel names it; 0: it is in another pid namespace
}

// Survey looks at a socket that somebody serves. Its server sees a connection
// that is closed without a byte.
func Survey(path string) (s Site, err error) {
	p, err := Open(path)
	if err != nil {
		return s, err
	}
	defer p.Close()
	at, err := p.look(p.base)
	if err != nil {
		return s, err
	}
	defer at.close()
	if err := p.refuse(at); err != nil {
		return s, err
	}
	c, err := at.dial()
	if err != nil {
		return s, cause(err)
	}
	pid, _ := proxy.Peer(c)
	_ = c.Close()
	s = Site{UID: at.uid, GID: at.gid, Recognised: at.generation != 0, Server: int(pid)}
	s.Write = unix.Faccessat(p.fd(), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	var stat unix.Statx_t
	if err := unix.Statx(int(at.Fd()), "", unix.AT_EMPTY_PATH, 0, &stat); err == nil {
		s.Mounted = stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 // since Linux 5.8; before, the exchange tells
	}
	var fsys unix.Statfs_t
	if err := unix.Fstatfs(p.fd(), &fsys); err == nil {
		s.FileSystem = noExchange[int64(fsys.Type)]
		// Counts of zero in all: it has no limits.
		s.Full = fsys.Blocks > 0 && fsys.Bfree == 0 || fsys.Files > 0 && fsys.Ffree == 0
	}
	return s, nil
}

// noExchange are file systems that refuse RENAME_EXCHANGE, or leave it to a
// server or daemon that may.
var noExchange = map[int64]string{
	unix.V9FS_MAGIC:       "9p",
	unix.CEPH_SUPER_MAGIC: "CephFS",
	unix.CIFS_SUPER_MAGIC: "SMB",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.FUSE_SUPER_MAGIC: "FUSE or virtiofs",
	unix.NFS_SUPER_MAGIC:  "NFS",
}
