package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const schemaFile = "../../deploy/daemonset/config.schema.json"

// TestAgentSchema: the schema that editors use is that of the settings. To write it
// anew: UPDATE=1 go test -run TestAgentSchema ./cmd/grpc-tap
func TestAgentSchema(t *testing.T) {
	if os.Getenv("UPDATE") != "" {
		must(t, os.WriteFile(schemaFile, agentSchema(), 0o644))
	}
	if file, err := os.ReadFile(schemaFile); err != nil || !bytes.Equal(file, agentSchema()) {
		t.Errorf("%s is not what `grpc-tap agent --print-schema` prints (%v)", schemaFile, err)
	}
}

// loads reads settings as the command does.
func loads(t *testing.T, content string, args ...string) (*agent, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.WriteFile(file, []byte(content), 0o600))
	given := (&agent{}).flags()
	must(t, given.Parse(args))
	return (&watcher{file: file, given: given}).load()
}

// TestAgentSettings: a flag wins, and whatever is wrong is told.
func TestAgentSettings(t *testing.T) {
	a, err := loads(t, "deny: [smb*]\norphanTimeout: 1h\nsamplingRatePerMillion: 10000\npayload: none", "--orphan-timeout", "5m", "--allow", "nfs*,x")
	if err != nil || a.orphan != 5*time.Minute || !slices.Equal(a.deny, []string{"smb*"}) || !slices.Equal(a.allow, []string{"nfs*", "x"}) || a.show.payload.level != "none" || a.show.format != "none" {
		t.Errorf("%+v, %v", a, err)
	}
	for content, want := range map[string]string{
		"denny: [a]":                      "config.yaml:1: there is no setting",
		"deny: ['[']":                     "is no pattern",
		"runtime: containerd":             "give auto, none, or the path of a socket",
		"payload: some":                   "--payload some",
		"stateDir: rel":                   "state-dir rel: give a path that begins with /",
		"stateDir: ''":                    "state-dir : give a path",
		"hostDir: ./bin":                  "host-dir ./bin: give a path that begins with /",
		"kubeletDir: kubelet":             "kubelet-dir kubelet: give a path that begins with /",
		"orphanTimeout: -1s":              "no negative durations",
		"samplingRatePerMillion: 2000000": "give 0 to 1000000",
		"otlpEndpoint: null":              "--otlp-endpoint \"null\": want HOST:PORT",
		"otlpEndpoint: ':::'":             "--otlp-endpoint \":::\": want HOST:PORT",
		"otlpEndpoint: 'http://a b:x'":    "want HOST:PORT without scheme or path",
		"hostPid: 7\nconfig: x":           "there is no setting \"config\"",
	} {
		if _, err := loads(t, content); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
	// What is delivered is right.
	delivered, err := os.ReadFile("../../deploy/daemonset/base/config.yaml")
	must(t, err)
	if a, err := loads(t, string(delivered)); err != nil || !a.live || a.orphan != 10*time.Minute {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAgentWants(t *testing.T) {
	for _, test := range []struct {
		allow, deny []string
		names       []string
		want        bool
	}{
		{[]string{"*"}, nil, []string{"nfs.csi.k8s.io", "csi-nfs"}, true},
		{[]string{"*"}, nil, []string{"", "csi-nfs"}, true},
		{[]string{"nfs*"}, nil, []string{"nfs.csi.k8s.io", "csi-nfs"}, true},
		{[]string{"nfs*"}, nil, []string{"smb.csi.k8s.io", "csi-smb"}, false},
		{[]string{"*"}, []string{"csi-nfs"}, []string{"nfs.csi.k8s.io", "csi-nfs"}, false},
		{nil, nil, []string{"nfs.csi.k8s.io"}, false},
	} {
		if got := (&agent{allow: test.allow, deny: test.deny}).wants(test.names...); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
