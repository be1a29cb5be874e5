package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReason: why a relay ended is told in one line that is bounded, and fit to be shown;
// the next relay's start forgets it.
func TestReason(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log", "cri.why")
	if got := readReason(file); got != "" {
		t.Errorf("of none: %q", got)
	}
	for why, want := range map[string]string{
		"read-only file system":           "read-only file system",
		"first\nsecond":                   "first; second",
		"dial: password=hunter2 \x1b[31m": `dial: password=‹scrubbed› \x1b[31m`,
		strings.Repeat("x", 2*maxReason):  strings.Repeat("x", maxReason),
	} {
		must(t, forgetReason(file))
		if got := readReason(file); got != "" {
			t.Errorf("forgotten: %q", got)
		}
		must(t, leaveReason(file, errors.New(why)))
		if got := readReason(file); got != want {
			t.Errorf("%.60q, not %.60q", got, want)
		}
	}
	// What somebody else has put there is not written through.
	other := filepath.Join(t.TempDir(), "other")
	must(t, errors.Join(os.WriteFile(other, []byte("theirs"), 0o600), forgetReason(file), os.Symlink(other, file)))
	if err := leaveReason(file, errors.New("ours")); err == nil || readReason(file) != "" {
		t.Errorf("%v, %q", err, readReason(file))
	}
}
