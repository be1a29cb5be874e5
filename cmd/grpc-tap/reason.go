package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// A relay that an agent started runs elsewhere, and ends without it. Why it did, it
// leaves in a file: whoever asks the agent has no access to the node.

// maxReason bounds what is read of it.
const maxReason = 4 << 10

// leaveReason is the relay's part.
func leaveReason(file string, why error) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(why.Error())
	return errors.Join(err, f.Close())
}

// forgetReason makes room for the reason of the relay that is started next.
func forgetReason(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("what the last relay said is in the way: %w", err)
	}
	return nil
}

// readReason is the agent's; "": there is none.
func readReason(file string) string {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, maxReason))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return shown(schema.Scrub(strings.Join(lines, "; ")))
}
