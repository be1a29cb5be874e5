package term

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// printable makes s fit to print on one line: control characters, among them
// ESC, line breaks and the C1 set, invisible formatting such as the bidi
// overrides, and bytes that are not UTF-8 appear as Go escapes: \x1b, \u202e.
func printable(s string) string {
	if strings.IndexFunc(s, hidden) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case !hidden(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}
	return b.String()
}

// hidden: all of Unicode that shows nothing and does something, but the two
// joiners, which scripts and emoji are spelled with.
func hidden(r rune) bool {
	if r == '\u200c' || r == '\u200d' {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// displayWidth is the number of columns that s takes on a terminal.
func displayWidth(s string) (n int) {
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// cutEnd, cutMiddle and cutFront shorten s to at most n columns, with an
// ellipsis for what they leave out.
func cutEnd(s string, n int) string { return cut(s, n, n-1) }

func cutMiddle(s string, n int) string { return cut(s, n, (n-1)/2) }

func cutFront(s string, n int) string { return cut(s, n, 0) }

// cut keeps head columns of s from its beginning, and of its end what remains
// of n after the ellipsis.
func cut(s string, n, head int) string {
	if displayWidth(s) <= n {
		return s
	}
	if n < 1 {
		return ""
	}
	from := prefix(s, max(head, 0))
	return s[:from] + "…" + s[suffix(s, n-1-displayWidth(s[:from])):]
}

// prefix is where the first n columns of s end; marks that combine with the
// last of them are inside.
func prefix(s string, n int) int {
	for i, r := range s {
		if n -= runeWidth(r); n < 0 {
			return i
		}
	}
	return len(s)
}

// suffix is where the last n columns of s begin; never with a combining mark,
// which would be put on the ellipsis.
func suffix(s string, n int) int {
	at := len(s)
	for i := len(s); i > 0; {
		r, size := utf8.DecodeLastRuneInString(s[:i])
		i -= size
		w := runeWidth(r)
		if n -= w; n < 0 {
			break
		}
		if w > 0 {
			at = i
		}
	}
	return at
}

func padLeft(s string, n int) string {
	return strings.Repeat(" ", max(n-displayWidth(s), 0)) + s
}

// escapeControls escapes what encoding/json leaves as it is and a terminal may
// obey: DEL and C1, of which U+009B begins a control sequence as ESC [ does. In
// JSON they can be inside strings only, where \u009b means the same.
func escapeControls(s string) string {
	obeyed := func(r rune) bool { return r >= 0x7f && r <= 0x9f }
	if strings.IndexFunc(s, obeyed) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if obeyed(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
