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
	// escaped is a byte of a value, percent-encoded: not what ends one, %20 %22 %26 %2C.
	escaped = `%(?:[1458-9a-f][\da-f]|2[13-57-9abdef]|3[\dc-f]|6[\da-f]|7[\da-cef])`
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
		// A key in base64, as in a kubeconfig: of "-----BEGIN", and OpenSSH's own.
		{[]string{"ls0tls1crudj", "b3blbnnzac1rzxktdj"}, `()(\b(?:LS0tLS1CRUdJ|b3BlbnNzaC1rZXktdj)[\w+/]*=*)`, nil},
		// Tokens that say what they are: GitHub, GitLab, Docker Hub, Slack, Vault, Google,
		// AWS, npm, age; and Ceph's keys, which are 28 bytes that begin alike.
		{[]string{"gh", "glpat-", "dckr_", "xox", "hv", "ya29.", "aiza", "akia", "asia", "npm_", "age-secret-key-"},
			`()(\b(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|dckr_[a-z]+_[\w-]{16,}|xox[a-z]-[\w-]{10,}|hv[bsr]\.[\w-]{16,}|npm_\w{30,}|AGE-SECRET-KEY-1\w+|ya29\.[\w-]{10,}|AIza[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{12,}))`, nil},
		{[]string{"aq"}, `()(\bAQ[\w+/]{34,38}==)`, nil},
		// Authorization: a scheme and its value, or a long value alone.
		{[]string{"authorization"}, `(?i)(\bauthorization\\*["']?\s*[:=]\s*\[?\\*["']?(?:token|digest|bearer|basic|negotiate|aws4-hmac-sha256)\s+)([^\s,;"'\\\]]+)`, nil},
		{[]string{"authorization"}, `(?i)(\bauthorization\\*["']?\s*[:=]\s*\[?\\*["']?)([\w.~+/=-]{16,})`, nil},
		{[]string{"bearer", "basic", "negotiate"}, `((?i:\b(?:bearer(?:\s+token)?|basic|negotiate)):?\s+)([\w.~+/-]{6,}=*)`, isLetters},
		{[]string{"cookie"}, `(?i)(\b(?:set-)?cookie\\*["']?\s*[:=]\s*\[?\\*["']?)([^\s"';]+(?:;\s*[\w.-]+=[^\s"';]*)*)`, nil},
		// Userinfo of URLs, up to the last @ before the path; of a share without a
		// scheme; and with a slash in the password.
		{[]string{"://"}, `(://)([^/\s"']+)@`, nil},
		{[]string{"//"}, `(//)([^/\s"':@]+:[^/\s"']+)@`, nil},
		{[]string{"://"}, `(://[^\s"'@/:]*:)([^\s"'@]*/[^\s"'@]*)@`, isPort},
		{[]string{"@"}, `([\w.-]+:)([^\s:@/"']+)@(?:[\w-]+\.)+[\w-]+(?::\d+)?/`, isPort},
		// What signs a URL, which whoever has it may use: S3's, GCS', CloudFront's,
		// Cloudflare's. Go's JSON writes & as \u0026.
		{[]string{"signature=", "sig=", "verify="}, `(?i)((?:[?&]|\\u0026|&amp;)(?:[\w.-]*signature|sig|verify)=)([^\s&"'\\]+)`, nil},
		{[]string{"@tcp(", "@unix(", "@udp("}, `([\w.-]+:)([^\s:@/"']+)@(?:tcp|unix|udp)\(`, nil},
		// All of a map of secrets, as JSON and as Go prints it.
		{[]string{"secret", "credential"}, `(?i)(["']?\b(?:secrets?|credentials?)\\*["']?\s*[:=]\s*)((?:map\[string\]string)?\{[^{}]*\}?|map\[[^\]]*\]?)`, nil},
		// A credential's key and a list or structure of values, in JSON.
		{keyHints, `(?i)(` + key + `\\*["']\s*:\s*)(\[[^\]]*\]?|\{[^{}]*\}?)`, pointsElsewhere},
		// An environment's entry: JSON, YAML, and what %+v prints.
		{[]string{"value"}, `(?i)(\b(?:name|key)\\*["']?:\s*\\*["']?` + key + `\\*["']?[,\s]\s*\\*["']?value\\*["']?:\s*)(` + value + `)`, nil},
		// protobuf's text form of a map entry.
		{keyHints, `(?i)(key:\s*"` + key + `"\s+value:\s*)("(?:[^"\\]|\\.)*"?)`, nil},
		{[]string{"secrets"}, `(?i)(secrets:\s*[{<]\s*key:\s*"[^"]*"\s+value:\s*)("(?:[^"\\]|\\.)*"?)`, nil},
		// A block of YAML.
		{keyHints, `(?i)(` + key + `["']?:[ \t]*[|>][+-]?[ \t]*\n)((?:[ \t]+[^\n]*(?:\n|$))+)`, pointsElsewhere},
		{[]string{":="}, `(?i)(` + key + `[ \t]*:=[ \t]*)(` + value + `)`, pointsElsewhere},
		// password: value; of any key what %v and %+v print, {Token:value}; and an
		// image pull's auth, which is base64 of user:password.
		{[]string{"pass", "pwd"}, `(?i)([\w.-]*(?:passw(?:or)?d|passphrase|\bpass|\bpwd|_pass|_pwd)(?:_in|_?hash|\d)?["']?\s?:[ \t]*)(` + value + `)`, nil},
		{[]string{"pw"}, `(?i)(\bpw:[ \t]*)(` + value + `)`, isReason},
		{[]string{"passw"}, `(?i)(\bpassw(?:or)?d\s+(?:is\s+)?["']?)(` + value + `)`, isReason},
		{keyHints, `(?i)((?:^|[\s{\[(,])` + key + `:)(` + bare + `)`, pointsElsewhere},
		{keyHints, `(?i)(\b[\w.]*[a-z][_-](?:secret|token|key|credentials?)(?:-data)?["']?:[ \t]+)(` + value + `)`, isPhrase},
		{keyHints, `(\b[a-z]\w*(?:Secret|Token|Key|Credentials?)["']?:[ \t]+)(` + value + `)`, isPhrase},
		{[]string{"auth:"}, `(?i)(\bauth:[ \t]*)("[^"]*"?|[\w+/]{6,}=*)`, nil},
		{keyHints, `(?i)(\b[\w-]*(?:secret|token|key|credentials?)["']?:[ \t]+)(` + value + `)`, isReason},
		// key=value, and JSON's "key": "value".
		{keyHints, `(?i)(` + key + `\\*["']?[ \t]*==?>?[ \t]*)(` + value + `)`, pointsElsewhere},
		{[]string{"key="}, `(?i)((?:\b|_)key=)(` + value + `)`, isReason},
		{[]string{"auth="}, `(?i)((?:\b|_)auth=)(` + value + `)`, isReason},
		// The same, percent-encoded, and in XML.
		{[]string{"%3d", "%3a"}, `(?i)(` + key + `(?:%22)?%3[ad](?:%2[02])*)((?:[^%\s&]|` + escaped + `)+)`, pointsElsewhere},
		{[]string{"</"}, `(?i)(<` + key + `>)([^<]+)`, pointsElsewhere},
		{append([]string{"auth"}, keyHints...), `(?i)((?:` + key + `|\bauth)\\*["']\s*:\s*)(` + value + `)`, pointsElsewhere},
		// --password value, also as %q and JSON print arguments; iscsiadm's pairs.
		{keyHints, `(?i)((?:^|[\s\["'])--?(?:` + key + `|key)(?:=|["'],?\s*["']?|,\s*["']?|\s+["']?))(` + value + `)`, pointsElsewhere},
		{[]string{"passw"}, `(?i)((?:-n|--name)["']?,?\s*["']?\S*passw(?:or)?d\S*["']?,?\s+["']?(?:-v|--value)["']?,?\s*["']?)(` + value + `)`, nil},
		// What programs take without a key: curl, docker login and its likes, mount.cifs.
		{[]string{"curl"}, `(\bcurl\b[^\n]*?["'\s](?:-u|--user)["',\s=]*[^\s:"',]+:)(` + value + `)`, nil},
		{[]string{"login", "sshpass"}, `(\b(?:sshpass|(?:docker|podman|nerdctl|buildah|skopeo|helm|oras|crane)\b[^\n]*?\blogin)\b[^\n]*?["'\s]-p["',\s=]*)(` + value + `)`, nil},
		{[]string{"user=", "username="}, `((?:^|[\s,"'])user(?:name)?=[^\s,%&"']+%)(` + value + `)`, nil},
	}
	forms := make([]form, len(all))
	for i, f := range all {
		forms[i] = form{f.hints, regexp.MustCompile(f.pattern), f.benign}
	}
	return forms
})
