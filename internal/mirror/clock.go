package mirror

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock tells CLOCK_MONOTONIC, which every process of the machine shares, as
// nanoseconds since the epoch. The day is for the tap to add: a relay that stands
// for months sees its wall clock set, most likely soon after boot, and a call that
// runs meanwhile must not seem to end before it began.
type clock struct {
	base time.Time // when it was made, with Go's own monotonic reading
	at   time.Time // what CLOCK_MONOTONIC said then
}

func newClock() clock {
	now, at := bothClocks()
	return clock{base: now, at: at}
}

// now costs no system call, as clock_gettime(2) by x/sys would.
func (c clock) now() time.Time { return c.at.Add(time.Since(c.base)) }

// of translates a time of this process, which has Go's monotonic reading.
func (c clock) of(t time.Time) time.Time { return c.at.Add(t.Sub(c.base)) }

// bothClocks reads the two as nearly at once as it gets them: whoever loses its
// processor between the two readings, as on a busy machine, would have them apart by
// as long as it waited.
func bothClocks() (now, at time.Time) { return readClocks(time.Now, monotonic) }

func readClocks(wall, mono func() time.Time) (now, at time.Time) {
	const tries, enough = 8, 20 * time.Microsecond
	best := time.Duration(-1)
	for range tries {
		before := mono()
		w := wall()
		took := mono().Sub(before)
		if best < 0 || took < best {
			best, now, at = took, w, before.Add(took/2)
		}
		if best < enough {
			break
		}
	}
	return now, at
}

func monotonic() time.Time {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // fails for clocks that there aren't
	return time.Unix(0, ts.Nano())
}

// Wall adds the day: it is the tap's, who reads on the same machine. Its zero
// value is ready. Not safe for concurrent use.
type Wall struct{ offset time.Duration }

// jitter is how far the two clocks may seem apart without either having been set:
// it must not show between two calls.
const jitter = time.Millisecond

// Of is the wall clock's time of an event's, as that clock stands now.
func (w *Wall) Of(at time.Time) time.Time {
	wall, mono := bothClocks()
	if now := wall.Round(0).Sub(mono); (now - w.offset).Abs() > jitter {
		w.offset = now
	}
	return at.Add(w.offset)
}
