package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/internal/mirror"
	"github.com/grpc-tap/grpc-tap/internal/tap"
	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// calls are those of one recorded mirror stream: what no sink lingers with.
const calls = tap.QueueSize / 2

// BenchmarkTap is what a small unary call costs the tap, from the mirror to
// where it goes; an operation is a call. cpu-ns/op is processor time, with what
// the collector takes, which is in this process.
func BenchmarkTap(b *testing.B) {
	stream := recordCalls(b)
	for _, bm := range []struct {
		name   string
		format string
		spans  bool
	}{
		{"decode", "none", false},
		{"json", "json", false},
		{"text", "text", false},
		{"spans", "none", true},
		{"all", "json", true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			var printed atomic.Int64
			show := showFlags{format: bm.format, logLevel: "warn", insecure: true}
			if bm.spans {
				show.endpoint = deafCollector(b)
			}
			out, err := show.open(context.Background(), func() {}, countLines{&printed}, io.Discard, nil)
			if err != nil {
				b.Fatal(err)
			}
			t := tap.New(tap.Config{Out: out.records, Log: out.log})
			b.ReportAllocs()
			b.ResetTimer()
			before := processorTime(b)
			for n := int64(0); n < int64(b.N); {
				r, hello, err := mirror.NewReader(bytes.NewReader(stream))
				if err == nil {
					err = t.Run(r, hello)
				}
				if err != nil {
					b.Fatal(err)
				}
				n += calls
				for out.toStdout != nil && printed.Load() < n || bm.spans && int64(out.spans.Stats().Exported) < n {
					time.Sleep(50 * time.Microsecond)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
			if err := out.close(false); err != nil || out.losses() != "" && !bm.spans {
				b.Fatal(err, out.losses())
			}
			if s := t.Stats(); s.Calls%calls != 0 {
				b.Fatalf("%+v", s)
			}
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// recordCalls is the mirror stream of a connection with so many calls.
func recordCalls(b *testing.B) []byte {
	dir := b.TempDir()
	runtime, up, path := fakecri.NewRuntime(), filepath.Join(dir, "up"), filepath.Join(dir, "tap")
	if err := runtime.Start(up); err != nil {
		b.Fatal(err)
	}
	defer runtime.Stop()
	lis, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	w := mirror.NewWriter(64 << 20)
	w.Hello("/run/containerd/containerd.sock", up)
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		client, _ := lis.Accept()
		server, _ := net.Dial("unix", up)
		c := w.Open(1, mirror.Peers{ClientPID: 812, ClientExe: "/usr/bin/kubelet", ServerPID: 640, ServerExe: "/usr/bin/containerd"})
		pass := func(d mirror.Dir, from, to net.Conn) {
			p := make([]byte, 32<<10)
			for {
				n, err := from.Read(p)
				c.Chunk(d, p[:n])
				if _, werr := to.Write(p[:n]); err != nil || werr != nil {
					_ = to.Close()
					return
				}
			}
		}
		ended := make(chan struct{})
		go func() { pass(mirror.FromServer, server, client); close(ended) }()
		pass(mirror.FromClient, client, server)
		<-ended
		c.Close("")
	}()
	k, err := fakecri.NewKubelet(path)
	if err != nil {
		b.Fatal(err)
	}
	for i := range calls {
		if i%8 == 7 {
			_, err = k.Runtime.Status(context.Background(), &cri.StatusRequest{})
		} else {
			_, err = k.Runtime.Version(context.Background(), &cri.VersionRequest{})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	_ = k.Close()
	<-passed
	w.Detached(0)
	done := make(chan struct{})
	close(done)
	var stream bytes.Buffer
	if err := w.WriteTo(&stream, done); err != nil {
		b.Fatal(err)
	}
	return stream.Bytes()
}

// countLines is a stdout.
type countLines struct{ n *atomic.Int64 }

func (c countLines) Write(p []byte) (int, error) {
	c.n.Add(int64(bytes.Count(p, []byte{'\n'})))
	return len(p), nil
}

// deafCollector takes requests and does not unpack them.
func deafCollector(b *testing.B) (address string) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(deaf{}), grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error {
		if err := in.RecvMsg(nil); err != nil {
			return err
		}
		return in.SendMsg(nil)
	}))
	go func() { _ = s.Serve(lis) }()
	b.Cleanup(s.Stop)
	return lis.Addr().String()
}

// deaf is a codec that reads and writes nothing.
type deaf struct{}

func (deaf) Name() string                         { return "proto" }
func (deaf) Marshal(any) (mem.BufferSlice, error) { return nil, nil }
func (deaf) Unmarshal(mem.BufferSlice, any) error { return nil }
