package schema

import (
	"fmt"
	"strings"
)

// Level is how much of a payload shows.
type Level uint8

const (
	// Safe: the fields that the tables list; all else by name, type and length.
	Safe Level = iota
	// None: nothing.
	None
	// Full: everything but what the API marks as secret (csi_secret, debug_redact),
	// what a table says is never shown, and service account tokens.
	Full
)

var levels = map[string]Level{"none": None, "safe": Safe, "full": Full}

// ParseLevel reads the value of --payload.
func ParseLevel(s string) (Level, error) {
	l, ok := levels[s]
	if !ok {
		return Safe, fmt.Errorf("%q is none of none, safe and full", s)
	}
	return l, nil
}

// Policy is what may be told of what passes. The zero value is the default.
type Policy struct {
	Payload Level
	// NoMessages: no free text is told, such as a status message.
	NoMessages bool
}

// Message is a status message as it may be told: scrubbed, and of at most limit
// bytes. cut says that there was more.
func (p Policy) Message(s string, limit int) (out string, cut bool) {
	if p.NoMessages {
		return "", false
	}
	size := len(s)
	if size > limit {
		s, cut = untilSpace(s[:limit]), true
	}
	s = Scrub(strings.ToValidUTF8(s, replacement))
	if cut {
		s += ellipsis + lengthMark(uint64(size))
	}
	return s, cut
}

// untilSpace leaves out the word in which s ends: of a text that was cut, it may
// be a credential whose form can't be told any more, such as a URL's userinfo
// before its "@".
func untilSpace(s string) string {
	return s[:strings.LastIndexAny(s, " \t\n")+1]
}
