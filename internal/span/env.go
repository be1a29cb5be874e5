package span

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// positiveEnv reads a count; what is none, or not above zero, is the default.
func positiveEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(strings.TrimSpace(os.Getenv(name))); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// envMilliseconds is a time, of a year at most: more would not fit a Duration.
func envMilliseconds(name string, otherwise int) time.Duration {
	return min(time.Duration(positiveEnv(name, otherwise)), 365*24*3600*1000) * time.Millisecond
}
