package schema

import (
	"regexp"
	"strings"
	"sync"
)

// scrubbed stands where a credential stood.
const scrubbed = "‹scrubbed›"

// jwtBegin is how every JSON Web Token begins: base64 of `{"`.
var jwtBegin = []byte("eyJ")

// Scrub takes the commonest forms of credentials out of free text (a status
// message), which is shown because it is why people come. Each keeps its key or
// scheme, which is part of the reason, and loses the value. Time is linear in
// the text's length.
func Scrub(s string) string {
	if s == "" {
		return ""
	}
	lower := strings.ToLower(s)
	for i := range forms() {
		f := &forms()[i]
		if f.hinted(lower) {
			s = f.take(s)
		}
	}
	return s
}

// ScrubName is Scrub for what is mostly a name, which costs next to nothing.
func ScrubName(s string) string {
	if isPlain([]byte(s)) {
		return s
	}
	return Scrub(s)
}

// ScrubTokens takes only JSON Web Tokens out, which service accounts' are.
func ScrubTokens(s string) string {
	if !strings.Contains(s, string(jwtBegin)) {
		return s
	}
	return forms()[0].take(s)
}

// credentialKey says that a map's key names a credential.
func credentialKey(key []byte) bool { return keyPattern().Match(key) }

var keyPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)` + secretWord + `|` + shortWord + `|auth`) })

// A form is one in which text carries a credential.
type form struct {
	// hints: without one of these, in lower case, the form is not there.
	hints   []string
	pattern *regexp.Regexp // its first group is kept, its second the credential
	// benign says that what matched is none; nil: it is one.
	benign func(key, value, rest string) bool
}

func (f *form) hinted(lower string) bool {
	for _, h := range f.hints {
		if strings.Contains(lower, h) {
			return true
		}
	}
	return false
}

func (f *form) take(s string) string {
	var out strings.Builder
	last := 0
	for _, m := range f.pattern.FindAllStringSubmatchIndex(s, -1) {
		key, value := s[m[2]:m[3]], s[m[4]:m[5]]
		if f.benign != nil && f.benign(key, value, s[m[5]:]) {
			continue
		}
		out.WriteString(s[last:m[4]])
		out.WriteString(scrubbed)
		last = m[5]
	}
	if last == 0 {
		return s
	}
	out.WriteString(s[last:])
	return out.String()
}

// pointsElsewhere: the key tells where a credential is, not what it is:
// secretName, token_file, credentials=/etc/smb.
func pointsElsewhere(key, value, _ string) bool {
	key = strings.ToLower(strings.Trim(key, " \t\"'\\:={[(,-"))
	for _, end := range []string{"name", "namespace", "file", "path", "dir", "type", "ref", "url", "uri", "endpoint", "version", "class", "provider"} {
		if strings.HasSuffix(key, end) && !strings.HasSuffix(key, "pass"+end) {
			return true
		}
	}
	return strings.HasSuffix(key, "credentials") && strings.HasPrefix(value, "/")
}

// isPhrase: after "access-token: " or "password: " stands the reason, not the
// credential: a word in small letters with another one behind it.
func isPhrase(key, value, rest string) bool {
	next := strings.TrimLeft(rest, " ")
	return pointsElsewhere(key, value, rest) ||
		isWord(value) && rest != next && next != "" && isWord(next[:1]) && !strings.Contains(key, "\"")
}

// isReason: after "secret: " or "token: " stands mostly a reason, for these are
// what errors are about. A credential has digits, capitals amid it, or is long.
func isReason(key, value, rest string) bool {
	value = strings.Trim(value, `"'\`)
	digits := strings.Trim(value, "0123456789") == ""
	switch {
	case pointsElsewhere(key, value, rest):
		return true
	case len(value) >= 20:
		return isWord(value)
	case digits && len(value) <= 3, strings.HasPrefix(rest, ":"): // a status; a link of a chain of causes, as x509:
		return true
	case len(value) <= 5 && strings.ToUpper(value) == value && !strings.ContainsAny(value, "0123456789"): // EOF
		return true
	}
	return !strings.ContainsAny(value, "0123456789+/=_") && strings.ToLower(value[1:]) == value[1:]
}

// isLetters: after "Basic " stands a word, as in "Basic Authentication".
func isLetters(_, value, _ string) bool { return len(value) < 16 && isWord(strings.ToLower(value)) }

// isPort: what seems to be a password is a port and a path, before a digest.
func isPort(_, value, rest string) bool {
	port, _, _ := strings.Cut(value, "/")
	return strings.HasPrefix(rest, "@sha256:") || len(port) <= 5 && strings.Trim(port, "0123456789") == ""
}

func isWord(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == "" }
