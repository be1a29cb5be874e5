package schema

import "regexp"

// scrubbed stands where a credential stood.
const scrubbed = "‹scrubbed›"

// credentials are the commonest forms in which a status message carries a
// secret. Each keeps its key or scheme, which is part of the reason, and loses
// the value. Go's regexps are linear in the message's length.
var credentials = []struct {
	pattern *regexp.Regexp
	keep    string
}{
	// PEM blocks, also cut off or with escaped newlines.
	{regexp.MustCompile(`-----BEGIN [A-Z0-9 ]+-----[^-]*(?:-----END [A-Z0-9 ]+-----)?`), scrubbed},
	// JSON Web Tokens: header and payload are base64 of `{"…`.
	{regexp.MustCompile(`\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?`), scrubbed},
	// Authorization schemes.
	{regexp.MustCompile(`(?i)\b(bearer|basic|negotiate)(\s+)[\w.~+/-]{8,}=*`), "${1}${2}" + scrubbed},
	// Userinfo of URLs.
	{regexp.MustCompile(`(://)[^/\s@"']+@`), "${1}" + scrubbed + "@"},
	// key=value, key="value", and JSON's "key":"value".
	{regexp.MustCompile(`(?i)([\w.-]*(?:passw(?:or)?d|passwd|passphrase|secret|token|credential|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|\bpass|\bpwd)[\w.-]*["']?\s*=\s*|["'][\w.-]*(?:passw(?:or)?d|passwd|passphrase|secret|token|credential|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key)[\w.-]*["']\s*:\s*)(?:"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,;&"']*[^\s,;&"':)\]}])`), "${1}" + scrubbed},
	// "password: value"; of other keys only a value that reads like a key, for
	// "failed to get token: connection refused" is a reason.
	{regexp.MustCompile(`(?i)(\b(?:passw(?:or)?d|passphrase)["']?:\s+)[^\s,;]+`), "${1}" + scrubbed},
	{regexp.MustCompile(`(?i)(\b[\w-]*(?:secret|token|key)["']?:\s+)[\w+/=-]{20,}`), "${1}" + scrubbed},
}

// Scrub takes the commonest forms of credentials out of free text (a status
// message), which is shown because it is why people come.
func Scrub(s string) string {
	for _, c := range credentials {
		s = c.pattern.ReplaceAllString(s, c.keep)
	}
	return s
}
