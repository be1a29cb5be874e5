package view

import (
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

func TestMatch(t *testing.T) {
	ok := &call.Record{State: call.Done, Code: "OK", DurationMS: 1000, Service: "csi.v1.Node", Method: "NodePublishVolume",
		Pod: call.Pod{Namespace: "shop", Name: "web"}}
	lost := &call.Record{State: call.Lost, DurationMS: 1, Service: "acme.Echo", Method: "Say"}
	running := &call.Record{State: call.Running, DurationMS: 5000, Service: "runtime.v1.RuntimeService", Method: "ExecSync"}
	for _, c := range []struct {
		f                 Filter
		ok, lost, running bool
	}{
		{Filter{}, true, true, true},
		{Filter{Errors: true}, false, true, false},
		{Filter{SlowerThan: 999 * time.Millisecond}, true, false, true},
		{Filter{SlowerThan: time.Second}, false, false, true},
		{Filter{Pod: "web"}, true, false, false},
		{Filter{Pod: "shop/web"}, true, false, false},
		{Filter{Pod: "other/web"}, false, false, false},
		{Filter{Pod: "we"}, false, false, false},
		{Filter{Method: "nodepublishvolume"}, true, false, false},
		{Filter{Method: "Node*Volume"}, true, false, false},
		{Filter{Method: "csi.v1.Node/*"}, true, false, false},
		{Filter{Method: "Echo/Say"}, false, true, false},
		{Filter{Method: "echo/s?y"}, false, true, false},
		{Filter{Method: "Node"}, false, false, false},
		{Filter{Method: "*"}, true, true, true},
		{Filter{Method: "NodePublish*", Errors: true}, false, false, false},
	} {
		if err := c.f.Validate(); err != nil {
			t.Errorf("%+v: %v", c.f, err)
		}
		if c.f.Match(ok) != c.ok || c.f.Match(lost) != c.lost || c.f.Match(running) != c.running {
			t.Errorf("%+v: %v %v %v, want %v %v %v", c.f, c.f.Match(ok), c.f.Match(lost), c.f.Match(running), c.ok, c.lost, c.running)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, f := range map[string]Filter{
		`--slower-than -1s: `:   {SlowerThan: -time.Second},
		`--pod "a/b/c": want `:  {Pod: "a/b/c"},
		`--pod "/web": want `:   {Pod: "/web"},
		`--pod "shop/": want `:  {Pod: "shop/"},
		`--pod "web-*": want `:  {Pod: "web-*"},
		`--method "a[": not a`:  {Method: "a["},
		`--method "[a-]": not `: {Method: "[a-]"},
	} {
		if err := f.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s…", f, err, want)
		}
	}
}
