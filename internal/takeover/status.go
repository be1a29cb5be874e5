package takeover

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Status is how a path stands.
type Status struct {
	// Taken: a socket of ours is at the path.
	Taken bool
	// Server is where the server's own socket is, if Taken.
	Server string
	// By is the pid of who has it; 0: nobody, it was killed. 1: it is not to be
	// seen by whom.
	By int
	// Door is where taps come to it; "": none may.
	Door string
	// Left are files of ours beside the path, by path.
	Left []string
}

// Read reads how a path stands, from its directory alone.
func Read(path string) (s Status, err error) {
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
	names, err := p.neighbours()
	if err != nil {
		return s, err
	}
	for _, n := range names {
		s.Left = append(s.Left, p.name(n))
		if at != nil && n == p.neighbour("-"+at.String()) {
			s.Taken, s.Server = true, p.name(n)
		}
	}
	s.By, s.Door = p.Holder()
	return s, nil
}

// Find lists the paths in a directory beside which something of ours lies.
func Find(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		// .BASE.grpc-tap-… or .BASE.grpc-tap.lock
		i := strings.LastIndex(e.Name(), mark)
		if i <= 1 || e.Name()[0] != '.' {
			continue
		}
		path := filepath.Join(dir, e.Name()[1:i])
		if !slices.Contains(found, path) {
			found = append(found, path)
		}
	}
	return found
}

// Restore gives a path back, whoever took it, and says what it did in words. A
// relay that is alive notices, and detaches. follow: a path that is a link, and beside
// which nothing of ours lies, stands for where it leads.
func Restore(path string, follow bool) (did string, held []Holder, err error) {
	open := openOwn
	if follow {
		open = Open
	}
	p, err := open(path)
	if err != nil {
		return "", nil, err
	}
	defer p.Close()
	result, err := p.Undo(true)
	if err != nil {
		return "", nil, err
	}
	p.removeStaleLock()
	return outcome[result], p.mounted(), nil
}
