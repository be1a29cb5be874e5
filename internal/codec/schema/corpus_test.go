package schema

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// marked is a credential in the corpus.
var marked = regexp.MustCompile(`(?s)«(.*?)»`)

// sample is a message of the corpus: as it is, as it may be told, and what is
// not.
type sample struct {
	in, want string
	secrets  []string
}

// corpus are the messages of testdata/corpus.txt.
func corpus(t testing.TB) (all []sample) {
	b, err := os.ReadFile("testdata/corpus.txt")
	must(t, err)
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "#") {
			text.WriteString(line)
		}
	}
	for message := range strings.SplitSeq(text.String(), "\n--\n") {
		message = strings.TrimSuffix(message, "\n")
		m := sample{in: marked.ReplaceAllString(message, "$1"), want: marked.ReplaceAllString(message, scrubbed)}
		for _, found := range marked.FindAllStringSubmatch(message, -1) {
			m.secrets = append(m.secrets, found[1])
		}
		all = append(all, m)
	}
	return all
}

var quotes = regexp.MustCompile(`\\*["']?` + scrubbed + `\\*["']?`)

// unquoted is a text without quotation marks around what was scrubbed: whether
// they stay is of no matter.
func unquoted(s string) string { return quotes.ReplaceAllString(s, scrubbed) }

// TestCorpus: of real messages the scrubber takes the credentials, and nothing
// of the reason.
func TestCorpus(t *testing.T) {
	all := corpus(t)
	for _, m := range all {
		if got := Scrub(m.in); unquoted(got) != unquoted(m.want) {
			t.Errorf("%s\n  became   %s\n  expected %s", m.in, got, m.want)
		}
	}
	if len(all) < 55 {
		t.Errorf("%d messages", len(all))
	}
}

// TestACutMessageTellsNoPart: wherever a message is cut, no part of a credential
// of four bytes or more is told.
func TestACutMessageTellsNoPart(t *testing.T) {
	for _, m := range corpus(t) {
		for n := range len(m.in) {
			out, cut := Policy{}.Message(m.in, n)
			if !cut || !strings.HasSuffix(out, "bytes›") {
				t.Fatalf("%q, cut at %d: %q, cut %v", m.in, n, out, cut)
			}
			for _, s := range m.secrets {
				if part := s[:min(len(s), 4)]; strings.Contains(out, part) && !strings.Contains(m.want, part) {
					t.Fatalf("cut at %d, %q tells a part of %q", n, out, s)
				}
			}
		}
	}
}

func TestMessagePolicy(t *testing.T) {
	if out, cut := (Policy{NoMessages: true}).Message("mount failed", 100); out != "" || cut {
		t.Errorf("told %q, cut %v", out, cut)
	}
	if out, cut := (Policy{}).Message("mount failed: \xff", 100); out != "mount failed: \ufffd" || cut {
		t.Errorf("told %q, cut %v", out, cut)
	}
}

// FuzzScrub: any text gives text, and
// in the forms that are known no credential stays, whatever is on the lines
// before it; but for quotation marks, which may be one's that was cut.
func FuzzScrub(f *testing.F) {
	for _, m := range corpus(f) {
		f.Add(m.in)
	}
	f.Add("\x00\"'=:@//eyJ-----BEGIN")
	f.Fuzz(func(t *testing.T, s string) {
		once := Scrub(s)
		if utf8.ValidString(s) && !utf8.ValidString(once) {
			t.Fatalf("%q became %q", s, once)
		}
		const secret = "hunter2hunter2"
		if strings.Contains(s, secret) || strings.ContainsAny(s, "\"'\\") {
			return
		}
		for _, form := range []string{
			"\npassword=" + secret, "\npassword: " + secret, "\nhttps://user:" + secret + "@host/", "\nBearer " + secret + "A1",
			"\nsecretAccessKey=" + secret, "\n{\"token\":\"" + secret + "\"}",
		} {
			if out := Scrub(s + form + "\n"); strings.Contains(out, secret) {
				t.Fatalf("%q of %q stays: %q", form, s, out)
			}
		}
	})
}
