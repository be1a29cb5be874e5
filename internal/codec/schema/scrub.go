package schema

import "regexp"

// scrubbed stands where a credential stood.
const scrubbed = "‹scrubbed›"

// The pieces of the patterns below. A key is a whole word that says that its
// value is a credential; a value is quoted (also within quotes: \"…\"), or runs
// to what ends a value in an option list, a URL's query, or Go's %+v.
const (
	secretWord = `(?:passw(?:or)?d|passphrase|secret|token|credential|(?:api|access|account|private|user|admin|client|encryption)[_-]?key)`
	shortWord  = `(?:\b|_)(?:pass|pwd|sig)`
	key        = `[\w.-]*(?:` + secretWord + `[\w.-]*|` + shortWord + `)`
	quoted     = `\\+["'].*?\\+["']|"(?:[^"\\]|\\.)*"?|'[^']*'?`
	value      = `(?:` + quoted + `|[^\s,;&"']*[^\s,;&"':)\]}])`
	// bare has no word for "there is none", and does not begin a structure.
	bare = `(?:` + quoted + `|[^\s,;&"'{\[][^\s,;&"']*[^\s,;&"':)\]}])`
)

// credentials are the commonest forms in which a status message carries a
// secret. Each keeps its key or scheme, which is part of the reason, and loses
// the value. A bare "token: " loses only what reads like a key, for "failed to
// get token: connection refused" is a reason. Go's regexps are linear in the
// message's length.
var credentials = []struct {
	pattern *regexp.Regexp
	keep    string
}{
	// PEM blocks, also cut off.
	{regexp.MustCompile(`(?s)-----BEGIN.*?(?:-----END[^-]*-----|$)`), scrubbed},
	// JSON Web Tokens: header and payload are base64 of `{"…`.
	{regexp.MustCompile(`\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?`), scrubbed},
	// Authorization: a scheme and its value, or a long value alone.
	{regexp.MustCompile(`(?i)(\bauthorization["']?\s*[:=]\s*["']?(?:token|digest|bearer|basic|negotiate)\s+)[^\s,;"']+`), "${1}" + scrubbed},
	{regexp.MustCompile(`\b((?i:bearer|basic|negotiate)\s+)[\w.~+/-]*[A-Z0-9][\w.~+/-]{7,}=*`), "${1}" + scrubbed},
	// Userinfo of URLs, up to the last @ before the path.
	{regexp.MustCompile(`(://)[^/\s"']+@`), "${1}" + scrubbed + "@"},
	// protobuf's text form of a map entry.
	{regexp.MustCompile(`(?i)(key:\s*"` + key + `"\s+value:\s*)"(?:[^"\\]|\\.)*"?`), "${1}" + scrubbed},
	{regexp.MustCompile(`(?i)(secrets:\s*\{\s*key:\s*"[^"]*"\s+value:\s*)"(?:[^"\\]|\\.)*"?`), "${1}" + scrubbed},
	// key=value, and JSON's "key": "value".
	{regexp.MustCompile(`(?i)(` + key + `\\*["']?\s*=\s*)` + value), "${1}" + scrubbed},
	{regexp.MustCompile(`(?i)(["'](?:` + key + `|auth)\\*["']\s*:\s*)` + value), "${1}" + scrubbed},
	// --password value, also as %q and JSON print arguments; iscsiadm's pairs.
	{regexp.MustCompile(`(?i)((?:^|[\s\["'])--?(?:` + key + `|key)["']?,?\s*["']?)` + value), "${1}" + scrubbed},
	{regexp.MustCompile(`(?i)((?:-n|--name)\s+\S*passw(?:or)?d\s+(?:-v|--value)\s+)` + value), "${1}" + scrubbed},
	// password: value; of any key what %v and %+v print, {Token:value}; and an
	// image pull's auth, which is base64 of user:password.
	{regexp.MustCompile(`(?i)([\w.-]*(?:passw(?:or)?d|passphrase|\bpass|\bpwd):\s*)` + value), "${1}" + scrubbed},
	{regexp.MustCompile(`(?i)((?:^|[\s{\[(,])` + key + `:)` + bare), "${1}" + scrubbed},
	{regexp.MustCompile(`(?i)(\b(?:client|user)[_-]?secret:\s+)` + value), "${1}" + scrubbed},
	{regexp.MustCompile(`(?i)(\bauth:\s*)(?:"[^"]*"?|[\w+/]{6,}=*)`), "${1}" + scrubbed},
	{regexp.MustCompile(`(?i)(\b[\w-]*(?:secret|token|key)["']?:\s+)[\w+/=-]{20,}`), "${1}" + scrubbed},
}

// Scrub takes the commonest forms of credentials out of free text (a status
// message), which is shown because it is why people come.
func Scrub(s string) string {
	if s == "" {
		return ""
	}
	for _, c := range credentials {
		s = c.pattern.ReplaceAllString(s, c.keep)
	}
	return s
}
