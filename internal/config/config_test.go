package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

type settings struct {
	orphan time.Duration
	allow  []string
	live   bool
	bytes  int
	dir    string
}

func flags(s *settings) *pflag.FlagSet {
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.DurationVar(&s.orphan, "orphan-timeout", time.Minute, "how long `D`")
	f.StringSliceVar(&s.allow, "allow", []string{"*"}, "")
	f.BoolVar(&s.live, "live-attach", false, "")
	f.IntVar(&s.bytes, "payload-bytes", 2048, "")
	f.StringVar(&s.dir, "dir", "/run", "")
	f.Int("of-tests", 1, "")
	_ = f.MarkHidden("of-tests")
	return f
}

func TestApply(t *testing.T) {
	var s settings
	f := flags(&s)
	if err := f.Parse([]string{"--dir", "/given"}); err != nil {
		t.Fatal(err)
	}
	err := Apply(f, "c.yaml", []byte("# what is usual\norphanTimeout: 10m\nallow: [nfs*, 'smb']\nliveAttach: true\npayloadBytes: 100\ndir: /file\n"))
	if err != nil || s.orphan != 10*time.Minute || !slices.Equal(s.allow, []string{"nfs*", "smb"}) || !s.live || s.bytes != 100 || s.dir != "/given" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, empty := range []string{"", "# nothing\n", "{}\n", "---\n"} {
		if err := Apply(flags(&s), "c.yaml", []byte(empty)); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

// TestMistakes: each is told with its line, all at once, and what was meant.
func TestMistakes(t *testing.T) {
	const second = "settings are one document; remove this line, if what follows belongs to it"
	for content, want := range map[string][]string{
		"orphan-timeout: 1m":               {"c.yaml:1: there is no setting \"orphan-timeout\"; you mean orphanTimeout"},
		"a: 1\nliveAttach: perhaps\n":      {"c.yaml:1: there is no setting \"a\"; there are allow, dir, liveAttach, orphanTimeout, payloadBytes\n", "c.yaml:2: liveAttach: \"perhaps\" is not what it takes: give true or false"},
		"dir: /a\ndir: /b":                 {"c.yaml:2: dir is set in line 1 already"},
		"allow: nfs":                       {"c.yaml:1: allow: give a list, such as [a, b]"},
		"allow:\n- [a]":                    {"allow: line 2: give texts"},
		"dir: [a]":                         {"c.yaml:1: dir: give one value, of type string"},
		"orphanTimeout: 10":                {"c.yaml:1: orphanTimeout: \"10\" is not what it takes: give a duration, such as 10s, 15m or 1h"},
		"- a":                              {"c.yaml:1: settings are lines of KEY: VALUE"},
		"dir: 'a":                          {"c.yaml: it is no YAML: "},
		"dir: /a\n---\nallow: [b]":         {"c.yaml:2: " + second},
		"---\ndir: /a\n---\n":              {"c.yaml:3: " + second},
		"dir: /a\n--- [\n":                 {"c.yaml: it is no YAML: "},
		"payloadBytes: 1\npayloadBytes: x": {"c.yaml:2: payloadBytes is set in line 1 already"},
	} {
		var s settings
		err := Apply(flags(&s), "c.yaml", []byte(content))
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v, want %q", content, err, w)
			}
		}
	}
	// A mistake is one also where the command line wins.
	var s settings
	f := flags(&s)
	_ = f.Parse([]string{"--payload-bytes", "7"})
	if err := Apply(f, "c.yaml", []byte("payloadBytes: many")); err == nil || s.bytes != 7 {
		t.Errorf("%v, %d", err, s.bytes)
	}
}

func TestSchema(t *testing.T) {
	var s settings
	got := string(Schema(flags(&s), "test"))
	for _, want := range []string{`"orphanTimeout": {`, `"description": "how long D"`, `"default": 2048`, `"additionalProperties": false`, `"type": "array"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}
