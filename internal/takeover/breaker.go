package takeover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// StateDir is where a node's operator tells all of our processes to keep off,
// and where deaths of relays are written down. /run: a reboot clears it.
const StateDir = "/run/grpc-tap"

// Disabled says why nothing may be taken: the kill switch is a file.
func Disabled(stateDir string) error {
	path := filepath.Join(stateDir, "disable")
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists: nothing is taken over while it does; remove it to allow it again", path)
	}
	return nil
}

const (
	// tooManyDeaths within deathsWithin, and no relay starts any more until a
	// person has looked.
	tooManyDeaths = 3
	deathsWithin  = 10 * time.Minute
)

func deathsFile(stateDir string) string { return filepath.Join(stateDir, "deaths") }

// RecordDeath writes down that a relay died.
func RecordDeath(stateDir, path string, pid int, at time.Time) error {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return fmt.Errorf("write down a relay's death: %w", err)
	}
	f, err := os.OpenFile(deathsFile(stateDir), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write down a relay's death: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s pid %d on %s\n", at.UTC().Format(time.RFC3339Nano), pid, path)
	return errors.Join(err, f.Close())
}

// Tripped says why no relay may start: too many died within a short time.
func Tripped(stateDir string) error {
	all, err := Deaths(stateDir)
	for i := tooManyDeaths - 1; i < len(all); i++ {
		if all[i].At.Sub(all[i-tooManyDeaths+1].At).Abs() < deathsWithin {
			return fmt.Errorf("%d relays died within %v (%s has when and where): nothing is taken over until you say `grpc-tap doctor --reset`",
				tooManyDeaths, deathsWithin, deathsFile(stateDir))
		}
	}
	return err
}

// Reset forgets the deaths.
func Reset(stateDir string) error {
	if err := os.Remove(deathsFile(stateDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the relays that died: %w", err)
	}
	return nil
}
