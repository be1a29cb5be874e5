package phase

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// File is a Store: one small file, replaced as a whole. What another boot has
// written in it counts for nothing, since no trace of that is gone on with.
type File struct {
	Path string
	Boot string
}

// maxFile bounds what is read: maxPods epochs have under 2 MB.
const maxFile = 8 << 20

// file is its content.
type file struct {
	Version int     `json:"version"`
	Boot    string  `json:"boot"`
	Epochs  []Epoch `json:"epochs"`
}

const fileVersion = 1

// begins is how each version of the file begins.
const begins = `{"version":`

// open opens the file, if it is one of these, or empty: what is somebody else's is
// not read, and not replaced.
func (f File) open() (*os.File, error) {
	in, err := os.OpenFile(f.Path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return nil, err
	}
	first := make([]byte, len(begins))
	n, err := in.ReadAt(first, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil && n > 0 && string(first) != begins {
		err = fmt.Errorf("%s is no file of grpc-tap's: it is left as it is", f.Path)
	}
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// Load returns what was saved since this boot. No file is no error.
func (f File) Load() ([]Epoch, error) {
	in, err := f.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var got file
	if err := json.NewDecoder(io.LimitReader(in, maxFile)).Decode(&got); err != nil && err != io.EOF { // EOF: it is empty
		return nil, fmt.Errorf("read %s: %w", f.Path, err)
	}
	if got.Version != fileVersion || got.Boot != f.Boot {
		return nil, nil
	}
	return got.Epochs, nil
}

// Save replaces the file. It is not synced to the disk: after a crash of the
// machine it would be another boot's.
func (f File) Save(all []Epoch) error {
	if in, err := f.open(); err == nil {
		_ = in.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b, err := json.Marshal(file{fileVersion, f.Boot, all})
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(f.Path), ".pods-")
	if err != nil {
		return err
	}
	_, err = next.Write(b)
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), f.Path)
	}
	if err != nil {
		_ = os.Remove(next.Name())
	}
	return err
}

// BootID is the kernel's name for this boot of the machine.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
