package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// via is one way from the client to the server.
type via struct {
	name    string
	kubelet *fakecri.Kubelet
	between []*process // what stands between; grpc-tap: the relay, then the tap
	calls   int64      // made so far
}

const (
	viaDirect = "direct"
	viaRelay  = "least Go relay"
	viaGRPC   = "grpc-go proxy"
	viaSocat  = "socat"
	viaTap    = "grpc-tap"
)

// ways starts everything: first the server, then what stands before it.
func (b *bench) ways(ctx context.Context) (server *process, all []*via, tap *tapped, err error) {
	socket := func(name string) string { return filepath.Join(b.dir, name+".sock") }
	upstream := socket("runtime")
	if server, err = b.startRole(ctx, "runtime", upstream, ""); err != nil {
		return nil, nil, nil, err
	}
	add := func(name, path string, between ...*process) {
		var k *fakecri.Kubelet
		if k, err = fakecri.NewKubelet(path); err == nil {
			all = append(all, &via{name: name, kubelet: k, between: between})
		}
	}
	add(viaDirect, upstream)
	for _, r := range []struct{ name, role string }{{viaRelay, "relay"}, {viaGRPC, "grpc-go"}} {
		p, err := b.startRole(ctx, r.role, socket(r.role), upstream)
		if err != nil {
			return nil, nil, nil, err
		}
		add(r.name, socket(r.role), p)
	}
	if socat, lookErr := exec.LookPath("socat"); lookErr == nil {
		// One client, so no fork; and a buffer as large as the others'.
		p, err := b.start("socat", os.DevNull, socat, "-b", "32768", "UNIX-LISTEN:"+socket("socat"), "UNIX-CONNECT:"+upstream)
		if err != nil {
			return nil, nil, nil, err
		}
		if err := p.listens(ctx, socket("socat")); err != nil {
			return nil, nil, nil, err
		}
		add(viaSocat, socket("socat"), p)
	} else {
		b.say("socat is not installed, and left out")
	}
	if tap, err = b.startTap(ctx, socket("tap"), upstream, os.DevNull); err != nil {
		return nil, nil, nil, err
	}
	add(viaTap, socket("tap"), tap.relay, tap.tap)
	return server, all, tap, err
}
