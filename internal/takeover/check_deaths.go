package takeover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Death is a relay's end that it did not choose.
type Death struct {
	At  time.Time
	Who string // its pid, and the path that it had
}

// MaxDeaths within DeathsWithin, and nothing is taken over any more.
const (
	MaxDeaths    = tooManyDeaths
	DeathsWithin = deathsWithin
)

// Deaths lists what is written down of relays that died, the latest last.
func Deaths(stateDir string) (all []Death, err error) {
	b, err := os.ReadFile(deathsFile(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read whether relays died: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		stamp, who, _ := strings.Cut(strings.TrimSpace(line), " ")
		if t, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
			all = append(all, Death{t, who})
		}
	}
	return all, nil
}
