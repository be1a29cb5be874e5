package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

const settings = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"

// Real sockets, both directions busy, a SendOff at any moment: the law, and the
// other direction is as it was.
func TestSendOffWhileBytesPass(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 8))
		e := newEngine(t)
		client, server := e.pair()
		in := session(r, 1+r.IntN(100), 4000, r.IntN(4) == 0)
		asked := rand.New(rand.NewPCG(seed, 9)).IntN(len(in))
		var work sync.WaitGroup
		sums := make([][32]byte, 2)
		work.Go(func() { sums[0] = send(t, client, rand.New(rand.NewPCG(seed, 10))) })
		work.Go(func() { sums[1] = receive(t, server) })
		work.Go(func() {
			for p := in; len(p) > 0; {
				n := 1 + r.IntN(min(len(p), 5000))
				write(t, server, string(p[:n]))
				p = p[n:]
			}
			_ = server.CloseWrite()
		})
		out := []byte(read(t, client, asked))
		e.SendOff()
		rest, err := io.ReadAll(client)
		work.Wait()
		if err != nil || sums[0] != sums[1] {
			t.Fatalf("seed %d: %v, or the client's bytes were changed", seed, err)
		}
		if err := unmoved(in, append(out, rest...), asked); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// unmoved holds what a client got against what its server said, if nobody knows
// where the bytes were when the GOAWAY was asked for, but at no less than from.
func unmoved(in, out []byte, from int) error {
	if bytes.Equal(in, out) {
		return nil // it came too late
	}
	for _, at := range places(in) {
		if at >= from && bytes.Equal(out, slices.Concat(in[:at], goaway, in[at:])) {
			return nil
		}
	}
	return errors.New("the client did not get what the server sent, with at most a GOAWAY in its place")
}

func TestAnIdleClientIsToldAtOnceAndOnce(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	write(t, server, settings)
	read(t, client, len(settings))
	e.SendOff()
	if got := read(t, client, len(goaway)); got != string(goaway) {
		t.Fatalf("an idle client got %x", got)
	}
	e.SendOff()
	write(t, server, settings)
	_ = server.CloseWrite()
	if got, err := io.ReadAll(client); string(got) != settings || err != nil {
		t.Errorf("after it the client got %x, %v", got, err)
	}
	_ = client.Close()
	e.Drain(context.Background(), 0)
	if n := e.moved.Load(); n != uint64(2*len(settings)) {
		t.Errorf("%d bytes moved: ours are none", n)
	}
}

// Who is not HTTP/2, or not yet, gets nothing; who becomes it, then.
func TestWhoCannotBeTold(t *testing.T) {
	for name, said := range map[string][]string{
		"HTTP/1.1":       {"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{", "}\r\n"},
		"nothing":        {""},
		"half SETTINGS":  {settings[:5], settings[5:12]},
		"an open block":  {settings + "\x00\x00\x01\x01\x00\x00\x00\x00\x01x"},
		"its own GOAWAY": {settings + string(goaway), settings},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			client, server := e.pair()
			var all string
			for _, s := range said {
				write(t, server, s)
				read(t, client, len(s))
				e.SendOff()
				e.awaitAsked()
				all += s
			}
			write(t, client, "POST")
			if got := read(t, server, 4); got != "POST" {
				t.Errorf("the server got %q", got)
			}
			_ = server.CloseWrite()
			if got, err := io.ReadAll(client); len(got) != 0 || err != nil {
				t.Errorf("the server said %q; the client got %x more, %v", all, got, err)
			}
		})
	}
}

// A client with no room is not waited for, and told in its place when it reads.
func TestSendOffDoesNotWait(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	in := session(rand.New(rand.NewPCG(3, 3)), 300, 10_000, false)
	var wrote sync.WaitGroup
	wrote.Go(func() { write(t, server, string(in)) })
	await(t, "the client's buffer to fill", func() bool {
		before := e.moved.Load()
		time.Sleep(20 * time.Millisecond) // sooner only makes the test easier
		return before > 0 && e.moved.Load() == before
	})
	e.SendOff()
	out := read(t, client, len(in)+len(goaway))
	if err := unmoved(in, []byte(out), 0); err != nil {
		t.Error(err)
	}
	wrote.Wait()
}

// A client that never reads holds up neither the cut nor anything else.
func TestAClientWithoutRoomIsCutOff(t *testing.T) {
	e := newEngine(t)
	client, server := e.pair()
	var wrote sync.WaitGroup
	wrote.Go(func() { _, _ = server.Write(make([]byte, 4<<20)) })
	read(t, client, 1)
	e.SendOff()
	e.Drain(context.Background(), time.Millisecond)
	wrote.Wait()
	if n := len(e.Clients()); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}

// A GOAWAY that went out in part is a broken connection, and said to be.
func TestAHalfGoAwayEndsTheConnection(t *testing.T) {
	client, theirs := socketPair(t)
	defer client.Close()
	c := &conn{client: theirs, out: toClient{client: failing{5}, told: func() {}}}
	c.out.frames.greeted = true
	c.sendOff()
	readEnd(t, client)
	if c.reason != "write: no buffer space available" {
		t.Errorf("the reason is %q", c.reason)
	}
}

// Who begins later is told too, but not who was told and comes back: its path
// leads here, and it would come for ever.
func TestLateClients(t *testing.T) {
	e := newEngine(t)
	e.SendOff()
	client, server := e.pair()
	write(t, server, settings)
	if got := read(t, client, len(settings)+len(goaway)); got != settings+string(goaway) {
		t.Errorf("a late client got %x", got)
	}
	again, server := e.pair()
	write(t, server, settings)
	_ = server.CloseWrite()
	if got, err := io.ReadAll(again); string(got) != settings || err != nil {
		t.Errorf("one that came back got %x, %v", got, err)
	}
	kept := 0
	for _, c := range e.Clients() {
		if c.Kept {
			kept++
		}
	}
	if kept != 1 || len(e.Clients()) != 2 {
		t.Errorf("clients %+v", e.Clients())
	}
}

// asClient has the test binary be a client and print what it gets.
const asClient = "PROXY_TEST_CLIENT"

// beClient dials path and copies what it gets to standard output.
func beClient(path string) error {
	c, err := Dial(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, c)
	return err
}

// A sidecar that would exit is not told.
func TestSidecarsAreKept(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sidecar := filepath.Join(dir, "csi-provisioner")
	if bin, err := os.ReadFile(exe); err != nil || os.WriteFile(sidecar, bin, 0o700) != nil {
		t.Fatal("no copy of the test:", err)
	}
	lis := listenUnix(t, filepath.Join(dir, "s"))
	defer lis.Close()
	cmd := exec.Command(sidecar)
	cmd.Env = append(os.Environ(), asClient+"="+filepath.Join(dir, "s"))
	var got bytes.Buffer
	cmd.Stdout, cmd.Stderr = &got, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client, err := lis.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine(t)
	e.Begin(client)
	server := <-e.up
	if c := e.Clients(); len(c) != 1 || c[0] != (Client{PID: uint32(cmd.Process.Pid), Exe: sidecar, Kept: true}) {
		t.Errorf("clients %+v", c)
	}
	write(t, server, settings)
	e.SendOff()
	e.awaitAsked()
	write(t, server, settings)
	_ = server.Close()
	if err := cmd.Wait(); err != nil || got.String() != settings+settings {
		t.Errorf("the sidecar got %x, %v", got.Bytes(), err)
	}
}

func TestKept(t *testing.T) {
	for exe, want := range map[string]bool{
		"/usr/bin/kubelet":                   false,
		"/usr/bin/kubelet (deleted)":         false,
		"/usr/local/bin/k3s":                 false,
		"/usr/bin/crictl":                    false,
		"/csi-node-driver-registrar":         true,
		"/csi-provisioner":                   true,
		"/csi-snapshot-metadata (deleted)":   true,
		"/livenessprobe":                     true,
		"/usr/bin/csi-addons":                true,
		"/dell-csi-replicator":               true,
		"/opt/csi/kubelet":                   false,
		"/bin/volume-modifier-for-k8s":       true,
		"/usr/bin/node-driver-registrar":     true,
		"/csi-external-health-monitor-agent": true,
		"":                                   true,
	} {
		if Keeps(exe) != want {
			t.Errorf("%q is kept: %v", exe, !want)
		}
	}
}
