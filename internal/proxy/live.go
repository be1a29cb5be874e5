package proxy

import "slices"

// What live attach (internal/takeover) shares with a relay that sends its
// clients off.

// Keeps says whether a client with this executable is never to be sent off, for
// it may exit then: a CSI sidecar, or one that can't be told ("").
func Keeps(exe string) bool { return keeps(exe) }

// GoAway is the frame that sends a client off (goaway.go has its rules).
func GoAway() []byte { return slices.Clone(goaway) }
