package mirror

import (
	"testing"
	"time"
)

// Losing the processor between the two clocks' readings does not set them apart.
func TestClocksAreReadAtOnce(t *testing.T) {
	day := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	up, reads := time.Duration(0), 0
	read := func(from time.Time) func() time.Time {
		return func() time.Time {
			// Each reading takes a microsecond, and the first four are waited for.
			if up += time.Microsecond; reads < 4 {
				up += 30 * time.Millisecond
			}
			reads++
			return from.Add(up)
		}
	}
	now, at := readClocks(read(day), read(time.Unix(0, 0)))
	if apart := now.Sub(at) - day.Sub(time.Unix(0, 0)); apart.Abs() > 10*time.Microsecond {
		t.Errorf("they are %v apart", apart)
	}
}
