package schema

import (
	"regexp"
	"sync"
)

// The pieces of the patterns below. A key is a whole word that says that its
// value is a credential; a value is quoted (also within quotes: \"…\"), or runs
// to what ends a value in an option list, a URL's query, or Go's %+v.
const (
	secretWord = `(?:passw(?:or)?d|passphrase|secret|token|credential|(?:api|access|account|private|user|admin|client|encryption|shared|signing|master|storage)[_-]?key)`
	shortWord  = `(?:\b|_)(?:pass|pwd|pw|sig)`
	key        = `[\w.-]*(?:` + secretWord + `[\w.-]*|` + shortWord + `)`
	quoted     = `\\+["'].*?\\+["']|"(?:[^"\\]|\\.)*"?|'[^']*'?`
	value      = `(?:` + quoted + `|[^\s,;&"']*[^\s,;&"':)\]}])`
	// bare has no word for "there is none", and does not begin a structure.
	bare = `(?:` + quoted + `|[^\s,;&"'{\[][^\s,;&"']*[^\s,;&"':)\]}]|[^\s,;&"'{\[:)\]}])`
)

var keyHints = []string{"pass", "pwd", "pw", "sig", "secret", "token", "credential", "key"}

// forms are those that are known, the first one tokens alone. They are compiled
// when the first text comes.
var forms = sync.OnceValue(func() []form {
	all := []struct {
		hints   []string
		pattern string
		benign  func(key, value, rest string) bool
	}{
		// JSON Web Tokens: header and payload are base64 of `{"…`.
		{[]string{"eyj"}, `()(\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)*)`, nil},
		// PEM blocks, also cut off; and with their line breaks escaped.
		{[]string{"-----begin"}, `(?s)()(-----BEGIN.*?(?:-----END[^-]*-----|$))`, nil},
		// Tokens that say what they are: GitHub, GitLab, Docker Hub, Slack, Vault, Google, AWS.
		{[]string{"gh", "glpat-", "dckr_", "xox", "hvs.", "ya29.", "aiza", "akia", "asia"},
			`()(\b(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|dckr_[a-z]+_[\w-]{16,}|xox[a-z]-[\w-]{10,}|hvs\.[\w-]{16,}|ya29\.[\w-]{10,}|AIza[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{12,}))`, nil},
		// Authorization: a scheme and its value, or a long value alone.
		{[]string{"authorization"}, `(?i)(\bauthorization\\*["']?\s*[:=]\s*\[?\\*["']?(?:token|digest|bearer|basic|negotiate|aws4-hmac-sha256)\s+)([^\s,;"'\\\]]+)`, nil},
		{[]string{"authorization"}, `(?i)(\bauthorization\\*["']?\s*[:=]\s*\[?\\*["']?)([\w.~+/=-]{16,})`, nil},
		{[]string{"bearer", "basic", "negotiate"}, `((?i:\b(?:bearer(?:\s+token)?|basic|negotiate)):?\s+)([\w.~+/-]{6,}=*)`, isLetters},
		{[]string{"cookie"}, `(?i)(\b(?:set-)?cookie\\*["']?\s*[:=]\s*\[?\\*["']?)([^\s"']+)`, nil},
		// Userinfo of URLs, up to the last @ before the path; of a share without a
		// scheme; and with a slash in the password.
		{[]string{"://"}, `(://)([^/\s"']+)@`, nil},
		{[]string{"//"}, `(//)([^/\s"':@]+:[^/\s"']+)@`, nil},
		{[]string{"://"}, `(://[^\s"'@/:]*:)([^\s"'@]*/[^\s"'@]*)@`, isPort},
		{[]string{"@tcp(", "@unix(", "@udp("}, `([\w.-]+:)([^\s:@/"']+)@(?:tcp|unix|udp)\(`, nil},
		// All of a map of secrets, as JSON and as Go prints it.
		{[]string{"secret", "credential"}, `(?i)(["']?\b(?:secrets?|credentials?)\\*["']?\s*[:=]\s*)(\{[^{}]*\}?|map\[[^\]]*\]?)`, nil},
		// protobuf's text form of a map entry.
		{keyHints, `(?i)(key:\s*"` + key + `"\s+value:\s*)("(?:[^"\\]|\\.)*"?)`, nil},
		{[]string{"secrets"}, `(?i)(secrets:\s*[{<]\s*key:\s*"[^"]*"\s+value:\s*)("(?:[^"\\]|\\.)*"?)`, nil},
		// password: value; of any key what %v and %+v print, {Token:value}; and an
		// image pull's auth, which is base64 of user:password.
		{[]string{"pass", "pwd"}, `(?i)([\w.-]*(?:passw(?:or)?d|passphrase|\bpass|\bpwd|_pass|_pwd)["']?\s?:[ \t]*)(` + value + `)`, nil},
		{[]string{"pw"}, `(?i)(\bpw:[ \t]*)(` + value + `)`, isReason},
		{[]string{"passw"}, `(?i)(\bpassw(?:or)?d\s+(?:is\s+)?["']?)(` + value + `)`, isReason},
		{keyHints, `(?i)((?:^|[\s{\[(,])` + key + `:)(` + bare + `)`, pointsElsewhere},
		{keyHints, `(?i)(\b[\w.]*[a-z][_-](?:secret|token|key|credentials?)["']?:[ \t]+)(` + value + `)`, isPhrase},
		{keyHints, `(\b[a-z]\w*(?:Secret|Token|Key|Credentials?)["']?:[ \t]+)(` + value + `)`, isPhrase},
		{[]string{"auth:"}, `(?i)(\bauth:[ \t]*)("[^"]*"?|[\w+/]{6,}=*)`, nil},
		{keyHints, `(?i)(\b[\w-]*(?:secret|token|key|credentials?)["']?:[ \t]+)(` + value + `)`, isReason},
		// key=value, and JSON's "key": "value".
		{keyHints, `(?i)(` + key + `\\*["']?[ \t]*=[ \t]*)(` + value + `)`, pointsElsewhere},
		{[]string{"key="}, `(?i)(\bkey=)(` + value + `)`, isReason},
		{[]string{"auth="}, `(?i)((?:\b|_)auth=)(` + value + `)`, isReason},
		// The same, percent-encoded, and in XML.
		{[]string{"%3d", "%3a"}, `(?i)(` + key + `%3[ad](?:%20)*)([^%\s&]+)`, pointsElsewhere},
		{[]string{"</"}, `(?i)(<` + key + `>)([^<]+)`, pointsElsewhere},
		{append([]string{"auth"}, keyHints...), `(?i)((?:` + key + `|\bauth)\\*["']\s*:\s*)(` + value + `)`, pointsElsewhere},
		// --password value, also as %q and JSON print arguments; iscsiadm's pairs.
		{keyHints, `(?i)((?:^|[\s\["'])--?(?:` + key + `|key)(?:=|["'],?\s*["']?|,\s*["']?|\s+["']?))(` + value + `)`, pointsElsewhere},
		{[]string{"passw"}, `(?i)((?:-n|--name)["']?,?\s*["']?\S*passw(?:or)?d\S*["']?,?\s+["']?(?:-v|--value)["']?,?\s*["']?)(` + value + `)`, nil},
	}
	forms := make([]form, len(all))
	for i, f := range all {
		forms[i] = form{f.hints, regexp.MustCompile(f.pattern), f.benign}
	}
	return forms
})
