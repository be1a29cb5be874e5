// Package internal holds no code: only the test of how its packages may depend
// on each other.
package internal

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/grpc-tap/grpc-tap/"

// may lists, for each package, the packages of ours that it may import, and
// why no others. Data flows one way (docs/architecture.md), and so do imports.
var may = map[string]struct {
	imports []string
	why     string
}{
	"internal/mirror":          {nil, "the relay links it: whatever it imports could hurt the traffic"},
	"internal/proxy":           {[]string{"internal/mirror"}, "the process that carries the bytes holds no parser and no exporter"},
	"internal/takeover":        {[]string{"internal/mirror", "internal/proxy"}, "it is the relay too, on a path in use: what it links is beside the traffic"},
	"internal/codec":           {nil, "bytes in, calls out: it knows no process, no payload and no sink"},
	"internal/codec/schema":    {nil, "what may be shown is decided from a message's bytes alone"},
	"internal/call":            {nil, "every sink shares the record: what it imports, all of them do"},
	"internal/identity":        {[]string{"internal/call", "internal/codec/schema"}, "it learns from calls and asks nobody"},
	"internal/ask":             {[]string{"internal/call", "internal/codec/schema", "internal/identity"}, "it asks for identity, which asks nobody; it knows no tap and no relay"},
	"internal/phase":           {[]string{"internal/call"}, "where a call belongs is decided from records alone: no bytes, no clock, no sink"},
	"internal/tap":             {[]string{"internal/mirror", "internal/codec", "internal/codec/schema", "internal/call", "internal/identity"}, "it hands records to sinks that it knows by one method"},
	"internal/otlp":            {nil, "it reaches a collector, and knows nothing of what is sent there"},
	"internal/span":            {[]string{"internal/call", "internal/otlp"}, "sinks know the record and not each other"},
	"internal/host":            {nil, "it starts processes and knows nothing of what they do"},
	"internal/config":          {nil, "settings are flags, whosever they are"},
	"internal/sample":          {[]string{"internal/call"}, "what is kept is decided from records alone: no clock, no sink, and no exporter"},
	"internal/metric":          {[]string{"internal/call", "internal/otlp"}, "sinks know the record and not each other; what others count it is told at a scrape"},
	"internal/discover":        {nil, "it looks at the machine and changes nothing: it knows no relay and no takeover"},
	"internal/view":            {[]string{"internal/call"}, "sinks know the record and not each other"},
	"internal/view/term":       {[]string{"internal/call"}, "sinks know the record and not each other"},
	"test/fakecri":             {nil, "a fake that shared code with the tap would share its mistakes"},
	"test/fakecri/cmd/fakecri": {[]string{"test/fakecri"}, "as test/fakecri"},
}

// onlyModules bounds what a package may link of other people's code, over any
// number of steps; the standard library is free but for what is named.
var onlyModules = map[string]struct {
	allowed []string
	noStd   []string
	why     string
}{
	"internal/mirror":   {[]string{"golang.org/x/sys"}, []string{"net/http", "encoding/json"}, "it is linked into the relay"},
	"internal/proxy":    {[]string{"golang.org/x/sys"}, []string{"net/http", "encoding/json"}, "no protobuf, no OpenTelemetry, no HTTP server beside the traffic"},
	"internal/takeover": {[]string{"golang.org/x/sys"}, []string{"net/http"}, "as internal/proxy"},
	"internal/codec":    {[]string{"golang.org/x/net", "golang.org/x/text"}, nil, "hpack and http2's constants; the decoder is ours, since it is pushed to"},
	"internal/call":     {nil, nil, "every sink shares it"},
	"internal/sample":   {nil, nil, "it is asked for each call, before any sink"},
}

type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Imports,Deps"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

func TestImportsGoOneWay(t *testing.T) {
	for path, p := range list(t, "./internal/...", "./test/fakecri/...") {
		name := strings.TrimPrefix(path, module)
		if name == "internal" {
			continue
		}
		rule, ok := may[name]
		if !ok {
			t.Errorf("%s is new: say in this test what it may import, and why no more", name)
			continue
		}
		for _, i := range p.Imports {
			if ours := strings.TrimPrefix(i, module); ours != i && !slices.Contains(rule.imports, ours) {
				t.Errorf("%s imports %s: %s", name, ours, rule.why)
			}
		}
	}
}

func TestWhatIsLinkedBesideTheTraffic(t *testing.T) {
	all := list(t, "-deps", "./internal/...")
	for name, rule := range onlyModules {
		for _, d := range all[module+name].Deps {
			switch {
			case all[d].Standard:
				if slices.Contains(rule.noStd, d) {
					t.Errorf("%s links %s: %s", name, d, rule.why)
				}
			case strings.HasPrefix(d, module):
			case !slices.ContainsFunc(rule.allowed, func(a string) bool { return strings.HasPrefix(d, a+"/") }):
				t.Errorf("%s links %s: %s", name, d, rule.why)
			}
		}
	}
}
