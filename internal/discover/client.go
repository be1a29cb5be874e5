package discover

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Clients are the processes that hold a connection to the server whose
// listening socket is bound to the file that lies at path now, by pid. Accepted
// or not yet, the connection counts; one to a server that had the path before
// does not.
//
// It takes root, the host's pid namespace, and a kernel with unix_diag. Where not
// all could be seen, the error says so, beside those that were; of a client whose
// process and network namespace are both hidden nothing is known.
func Clients(path string) ([]Process, error) { return Config{}.clients(path) }

func (c Config) clients(path string) ([]Process, error) {
	socks, err := c.boundAt(path)
	if socks == nil && err != nil {
		return nil, err
	}
	theirs := map[uint32]bool{}
	for _, s := range socks {
		for _, ino := range append(s.waiting, s.peer) {
			if ino != 0 {
				theirs[ino] = true
			}
		}
	}
	held, complete := holders(theirs)
	if n := len(theirs) - len(held); n > 0 && !complete { // else they have hung up meanwhile
		err = errors.Join(err, fmt.Errorf("the processes of %d of its connections could not be looked into; run as root", n))
	}
	if err != nil {
		err = fmt.Errorf("who is connected to %s: %w", path, err)
	}
	var pids []int
	for _, by := range held {
		pids = append(pids, by...)
	}
	return processes(pids), err
}

// boundAt are the sockets that are bound to the files at paths: the servers'
// listeners, and their ends of the connections to them. Beside an error: those that
// were seen; nil: there is none of these files.
func (c Config) boundAt(paths ...string) (bound []sock, err error) {
	files := map[boundFile]bool{}
	var errs []error
	mounted := readMounts()
	for _, path := range paths {
		at, err := filepath.EvalSymlinks(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		file, err := openSocket(at, mounted)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer file.close()
		files[file.bound] = true
	}
	if len(files) == 0 {
		return nil, errors.Join(errs...)
	}
	bound = []sock{}
	err = c.eachNamespace(func(socks []sock) bool {
		for _, s := range socks {
			if files[s.bound] {
				bound = append(bound, s)
			}
		}
		return true
	})
	return bound, errors.Join(append(errs, err)...)
}
