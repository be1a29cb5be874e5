package term

import (
	"bytes"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

var update = flag.Bool("update", false, "write the golden files anew; then read them")

// The words of mount.nfs as csi-driver-nfs passes them on.
const nfsMessage = "mount failed: exit status 32\n" +
	"Mounting command: mount\n" +
	"Mounting arguments: -t nfs -o nfsvers=4.1 10.0.0.9:/export/data /var/lib/kubelet/pods/6f0c1c7e-8a1d-4a60-9d0e-3d1a9c1f5b11/volumes/kubernetes.io~csi/pv-data/mount\n" +
	"Output: mount.nfs: Connection timed out for 10.0.0.9:/export/data on /var/lib/kubelet/pods/6f0c1c7e-8a1d-4a60-9d0e-3d1a9c1f5b11/volumes/kubernetes.io~csi/pv-data/mount\n"

// scene is a minute on a node on which not all goes well.
func scene() []*call.Record {
	const (
		cri = "runtime.v1.RuntimeService"
		img = "runtime.v1.ImageService"
		csi = "csi.v1.Node"
	)
	at := time.Date(2026, 3, 1, 10, 15, 2, 123e6, time.UTC)
	kubelet := call.Caller{PID: 812, Exe: "/usr/bin/kubelet"}
	containerd := call.Server{Name: "containerd"}
	nfs := call.Server{Name: "nfs.csi.k8s.io"}
	web := call.Pod{Namespace: "shop", Name: "web-7d9f8b6c5-x2x9z", UID: "6f0c1c7e-8a1d-4a60-9d0e-3d1a9c1f5b11"}
	nginx := call.Container{ID: "4c01db0b339c6e6d1a0d3c1a", Name: "nginx"}
	volume := call.Volume{ID: "10.0.0.9#export#data", PV: "pv-data", Driver: "nfs.csi.k8s.io"}

	var all []*call.Record
	add := func(ms float64, r call.Record) {
		r.Start, r.DurationMS = at, ms
		at = at.Add(time.Duration(ms*1e6) + 1731*time.Microsecond)
		r.Caller.PID, r.Caller.Exe = kubelet.PID, kubelet.Exe
		if r.State == "" {
			r.State = call.Done
		}
		r.Connection, r.Stream, r.TraceID = 3, uint32(2*len(all)+1), "0af7651916cd43dd8448eb211c80319c"
		if r.RequestMessages == 0 {
			r.RequestMessages, r.ResponseMessages = 1, 1
		}
		all = append(all, &r)
	}
	add(0.412, call.Record{Service: cri, Method: "Version", Code: "OK", Server: containerd, RequestBytes: 9, ResponseBytes: 46})
	add(612.4, call.Record{Service: cri, Method: "RunPodSandbox", Code: "OK", Server: containerd, Pod: web, SandboxID: "e88d4f0aa1b2c3d4", RequestBytes: 1890, ResponseBytes: 66})
	add(12345, call.Record{Service: img, Method: "PullImage", Code: "OK", Server: containerd, Pod: web, Image: "docker.io/library/nginx:1.27", RequestBytes: 940, ResponseBytes: 73})
	add(1.2345, call.Record{Service: img, Method: "ImageStatus", Code: "OK", Server: containerd, Image: "registry.example.com/team/app@sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a"})
	add(120004, call.Record{Service: csi, Method: "NodePublishVolume", Code: "INTERNAL", Message: nfsMessage, Server: nfs, Pod: web, Volume: volume})
	add(0.85, call.Record{Service: csi, Method: "NodeGetCapabilities", Code: "OK", Server: nfs})
	probeFailed := int32(1)
	add(43.21, call.Record{Service: cri, Method: "ExecSync", Code: "OK", Server: containerd, Pod: web, Container: nginx, ExitCode: &probeFailed})
	add(8.9, call.Record{Service: cri, Method: "ListContainers", Code: "OK", Server: containerd, RequestBytes: 4, ResponseBytes: 165432})
	add(0.21, call.Record{Service: cri, Method: "ContainerStatus", Code: "NOT_FOUND", Message: "container not found", Server: containerd, Container: call.Container{ID: nginx.ID}})
	add(2.5, call.Record{Service: "acme.test.v2.Echo", Method: "Say", Code: "UNIMPLEMENTED", Message: `unknown service acme.test.v2.Echo`, Socket: "/run/acme/echo.sock"})
	add(5.2, call.Record{Service: cri, Method: "StopContainer", Code: "CANCELLED", Server: containerd, Pod: web, Container: nginx})
	add(2000.3, call.Record{Service: cri, Method: "UpdateContainerResources", Code: "DEADLINE_EXCEEDED", Message: "context deadline exceeded", Server: containerd, Pod: web, Container: nginx})
	add(3723000, call.Record{Service: cri, Method: "GetContainerEvents", Server: containerd, State: call.Lost, Message: "the server closed the connection", RequestMessages: 1, ResponseMessages: 250})
	add(77, call.Record{Service: cri, Method: "CreateContainer", Code: "UNKNOWN", Server: containerd,
		Pod: call.Pod{Namespace: "商店", Name: "カート-サービス-e\u0301te\u0301-0"}, Message: "bad annotation \x1b]0;owned\x07\x1b[2J\u202e \xff: 注文が見つかりません"})
	return all
}

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		file string
		Options
	}{
		{"80.txt", Options{Width: 80}},
		{"80-color.txt", Options{Width: 80, Color: true}},
		{"120.txt", Options{Width: 120}},
		{"200.txt", Options{Width: 200}},
		{"200-color.txt", Options{Width: 200, Color: true}},
		{"wide.txt", Options{Width: 200, Wide: true}},
	} {
		t.Run(c.file, func(t *testing.T) {
			got := draw(c.Options, scene()...)
			file := "testdata/" + c.file
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s\n(go test -update writes it anew)", got, want)
			}
		})
	}
}

func draw(o Options, records ...*call.Record) string {
	var b bytes.Buffer
	o.Location = time.UTC
	text := NewText(&b, o)
	text.Records(records)
	return b.String()
}

// Colour changes colours only, and every colour is ended on its line.
func TestColorIsPaint(t *testing.T) {
	colored := draw(Options{Width: 120, Color: true}, scene()...)
	plain := strings.NewReplacer(string(dim), "", string(red), "", string(yellow), "", "\x1b[0m", "").Replace(colored)
	if want := draw(Options{Width: 120}, scene()...); plain != want {
		t.Errorf("without its colours:\n%s\nplain:\n%s", plain, want)
	}
	for line := range strings.Lines(colored) {
		if n := strings.Count(line, "\x1b["); n != 2*strings.Count(line, "\x1b[0m") {
			t.Errorf("%q: a colour is not ended", line)
		}
	}
}

func BenchmarkText(b *testing.B) {
	text, records := NewText(io.Discard, Options{Width: 200, Color: true}), scene()
	b.ReportAllocs()
	for b.Loop() {
		text.Records(records)
	}
}
