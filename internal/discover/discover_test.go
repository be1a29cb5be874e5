package discover

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/grpc-tap/grpc-tap/test/fakecri"
)

// A node with all that may lie there: each socket is told of once, in order, as
// what it is, and nothing is told of that is none of it.
func TestNode(t *testing.T) {
	root := tempDir(t)
	at := func(path string) string { return filepath.Join(root, path) }

	start(t, fakecri.NewRuntime(fakecri.WithName("containerd")), at("run/containerd/containerd.sock"))
	mkdir(t, at("var"))
	if err := os.Symlink("../run", at("var/run")); err != nil {
		t.Fatal(err)
	}
	dead(t, at("run/crio/crio.sock"))                  // found by /run and by /var/run
	plain(t, at("run/k3s/containerd/containerd.sock")) // a containerd without its CRI plugin

	kubelet := "var/lib/kubelet/"
	start(t, fakecri.NewDriver(fakecri.WithName("nfs.csi.k8s.io")), at(kubelet+"plugins/csi-nfs/csi.sock"))
	start(t, fakecri.NewDriver(fakecri.WithName("odd.example")), at(kubelet+"plugins/odd.example/node/plugin"))
	start(t, fakecri.NewDriver(fakecri.WithName("flat.example")), at(kubelet+"plugins/flat.sock"))
	plain(t, at(kubelet+"plugins/gpu.example/dra.sock"))
	dead(t, at(kubelet+"plugins/gone.example/csi.sock"))

	mkdir(t, at(kubelet+"device-plugins"))
	never := []<-chan string{
		plain(t, at(kubelet+"device-plugins/kubelet.sock")),
		plain(t, at(kubelet+"plugins_registry/csi-nfs-reg.sock")),
		plain(t, at(kubelet+"pod-resources/kubelet.sock")),
	}
	ttrpc := listenAt(t, at(kubelet+"plugins/odd.example/other.sock.ttrpc"))

	dead(t, at(kubelet+"plugins/csi-nfs/.csi.sock.tmp"))
	dead(t, at(kubelet+"plugins/kubernetes.io/csi/csi.sock"))
	dead(t, at(kubelet+"plugins/too/deep/for/csi.sock"))
	if err := os.WriteFile(at(kubelet+"plugins/csi-nfs/a.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(at("run/containerd/containerd.sock"), at(kubelet+"plugins/runtime.sock")); err != nil {
		t.Fatal(err)
	}

	want := []Socket{
		{Path: at("run/containerd/containerd.sock"), Kind: CRI, Speaks: "CRI v1", Name: "containerd", Version: "v1.0.0", Servers: self()},
		{Path: at("run/crio/crio.sock"), Kind: CRI, Dead: true},
		{Path: at(kubelet + "plugins/csi-nfs/csi.sock"), Kind: CSI, Speaks: "CSI", Name: "nfs.csi.k8s.io", Version: "v1.0.0", Servers: self()},
		{Path: at(kubelet + "plugins/flat.sock"), Kind: CSI, Speaks: "CSI", Name: "flat.example", Version: "v1.0.0", Servers: self()},
		{Path: at(kubelet + "plugins/gone.example/csi.sock"), Kind: CSI, Dead: true},
		{Path: at(kubelet + "plugins/odd.example/node/plugin"), Kind: CSI, Speaks: "CSI", Name: "odd.example", Version: "v1.0.0", Servers: self()},
		{Path: at(kubelet + "plugins/odd.example/other.sock.ttrpc"), Kind: CSI, Speaks: "ttrpc", Servers: self()},
		{Path: at(kubelet + "device-plugins/kubelet.sock"), Kind: DevicePlugin, Speaks: "gRPC", Servers: self()},
		{Path: at(kubelet + "plugins_registry/csi-nfs-reg.sock"), Kind: Registration, Speaks: "gRPC", Servers: self()},
		{Path: at(kubelet + "pod-resources/kubelet.sock"), Kind: PodResources, Speaks: "gRPC", Servers: self()},
		{Path: at("run/k3s/containerd/containerd.sock"), Kind: Other, Speaks: "gRPC", Servers: self()},
		{Path: at(kubelet + "plugins/gpu.example/dra.sock"), Kind: Other, Speaks: "gRPC", Servers: self()},
	}
	got, err := Config{Root: root, Ask: patient}.Sockets(context.Background())
	if err != nil {
		t.Error(err)
	}
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing: %+v", want[i])
		case i >= len(want):
			t.Errorf("too much: %+v", got[i])
		case !reflect.DeepEqual(got[i], want[i]):
			t.Errorf("\n got %+v\nwant %+v", got[i], want[i])
		}
	}

	for _, asked := range never {
		select {
		case method := <-asked:
			t.Errorf("%s was called on a socket that is to be greeted only", method)
		default:
		}
	}
	if dialled(t, ttrpc) {
		t.Error("a ttrpc socket was dialled")
	}
}

// TestDistributions: of each distribution, the runtime's socket and a driver's below the
// kubelet's directory are found where it has them, without a word of configuration.
func TestDistributions(t *testing.T) {
	const usual = "var/lib/kubelet"
	for name, node := range map[string]struct{ socket, kubelet string }{
		"kubeadm, EKS, GKE, AKS, kind, Talos": {"run/containerd/containerd.sock", usual},
		"k3s, RKE2":                           {"run/k3s/containerd/containerd.sock", usual},
		"k0s":                                 {"run/k0s/containerd.sock", "var/lib/k0s/kubelet"},
		"microk8s":                            {"var/snap/microk8s/common/run/containerd.sock", "var/snap/microk8s/common/var/lib/kubelet"},
		"CRI-O":                               {"run/crio/crio.sock", usual},
		"cri-dockerd":                         {"run/cri-dockerd.sock", usual},
	} {
		root := tempDir(t)
		at := func(path ...string) string { return filepath.Join(append([]string{root}, path...)...) }
		mkdir(t, at("var"))
		if err := os.Symlink("../run", at("var/run")); err != nil {
			t.Fatal(err)
		}
		start(t, fakecri.NewRuntime(fakecri.WithName("runtime")), at(node.socket))
		start(t, fakecri.NewDriver(fakecri.WithName("nfs.csi.k8s.io")), at(node.kubelet, "plugins/csi-nfs/csi.sock"))
		want := []Socket{
			{Path: at(node.socket), Kind: CRI, Speaks: "CRI v1", Name: "runtime", Version: "v1.0.0", Servers: self()},
			{Path: at(node.kubelet, "plugins/csi-nfs/csi.sock"), Kind: CSI, Speaks: "CSI", Name: "nfs.csi.k8s.io", Version: "v1.0.0", Servers: self()},
		}
		got, err := Config{Root: root, Ask: patient}.Sockets(context.Background())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", name, got, err, want)
		}
	}
}

// dialled says whether a connection waits to be accepted.
func dialled(t *testing.T, l *net.UnixListener) (yes bool) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		yes = n > 0
	})
	return yes
}

// A path that a user names is asked for all that we know, wherever it lies.
func TestInspectAnywhere(t *testing.T) {
	dir := tempDir(t)
	start(t, fakecri.NewRuntime(), filepath.Join(dir, "a"))
	start(t, fakecri.NewDriver(), filepath.Join(dir, "b"))
	asked := plain(t, filepath.Join(dir, "c"))
	plain(t, filepath.Join(dir, "device-plugins/d"))
	for name, want := range map[string]struct {
		kind   Kind
		speaks string
	}{
		"a": {CRI, "CRI v1"}, "b": {CSI, "CSI"}, "c": {Other, "gRPC"}, "device-plugins/d": {DevicePlugin, "gRPC"},
	} {
		s := inspect(t, Config{}, filepath.Join(dir, name))
		if s.Kind != want.kind || s.Speaks != want.speaks || s.Err != nil || !reflect.DeepEqual(s.Servers, self()) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for _, want := range []string{"/runtime.v1.RuntimeService/Version", "/csi.v1.Identity/GetPluginInfo"} {
		if got := <-asked; got != want {
			t.Errorf("asked %s, not %s", got, want)
		}
	}
}

func TestInspectWhatIsNoSocket(t *testing.T) {
	dir := tempDir(t)
	if _, err := (Config{}).Inspect(context.Background(), dir); err == nil || !strings.Contains(err.Error(), dir+": not a socket") {
		t.Error(err)
	}
	if _, err := (Config{}).Inspect(context.Background(), dir+"/none"); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// Servers that do not answer as they should are told apart, and cost no more
// than what they are given.
func TestBadServers(t *testing.T) {
	const short = 50 * time.Millisecond
	for _, test := range []struct {
		name   string
		serve  func(t *testing.T, path string)
		ask    time.Duration
		speaks string
		err    string
	}{
		{"silent", func(t *testing.T, path string) { serveWith(t, path, silent) }, short, "unknown", "did not answer within 50ms"},
		{"never accepts", func(t *testing.T, path string) { listenAt(t, path) }, short, "unknown", "did not answer within 50ms"},
		{"hangs up", func(t *testing.T, path string) { serveWith(t, path, func(net.Conn) {}) }, patient, "unknown", "does not greet as an HTTP/2 server"},
		{"not HTTP/2", func(t *testing.T, path string) {
			serveWith(t, path, func(c net.Conn) {
				_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))
				silent(c)
			})
		}, patient, "unknown", "does not greet as an HTTP/2 server"},
		{"is not ready", func(t *testing.T, path string) {
			d := fakecri.NewDriver()
			d.On("/csi.v1.Identity/GetPluginInfo", fakecri.Fail(codes.Unavailable, "no name yet"))
			start(t, d, path)
		}, patient, "gRPC", "asked for its name (csi.v1), it answered Unavailable: no name yet"},
		{"a full queue", func(t *testing.T, path string) { full(t, path) }, patient, "", "its queue of connections is full"},
		{"no stream", func(t *testing.T, path string) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
		}, patient, "", "no stream socket"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(tempDir(t), "s.sock")
			test.serve(t, path)
			s := inspect(t, Config{Ask: test.ask}, path)
			if s.Speaks != test.speaks || s.Dead || s.Err == nil || !strings.Contains(s.Err.Error(), test.err) {
				t.Errorf("%+v", s)
			}
			if test.name != "no stream" && !reflect.DeepEqual(s.Servers, self()) {
				t.Errorf("served by %+v", s.Servers)
			}
		})
	}
}

// full fills the queue of a listener that does not accept.
func full(t *testing.T, path string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	for {
		c, err := net.Dial("unix", path)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// What hangs holds up nobody else, even where there is more of it than is asked
// at once.
func TestManyThatHang(t *testing.T) {
	root := tempDir(t)
	plugins := filepath.Join(root, "var/lib/kubelet/plugins")
	mkdir(t, plugins)
	const hanging = 2 * atOnce
	for i := range hanging {
		serveWith(t, filepath.Join(plugins, string(rune('a'+i))), silent)
	}
	sockets, err := Config{Root: root, Ask: 20 * time.Millisecond}.Sockets(context.Background())
	if err != nil || len(sockets) != hanging {
		t.Fatalf("%v, %v", sockets, err)
	}
	if i := slices.IndexFunc(sockets, func(s Socket) bool { return s.Speaks != "unknown" || s.Kind != CSI }); i >= 0 {
		t.Errorf("%+v", sockets[i])
	}
}

// Who greets and then does not answer speaks gRPC all the same.
func TestHangsAfterTheGreeting(t *testing.T) {
	path := filepath.Join(tempDir(t), "s.sock")
	ctx, giveUp := context.WithCancel(context.Background())
	r := fakecri.NewRuntime()
	over := make(chan struct{})
	r.On("/runtime.v1.RuntimeService/Version", fakecri.Reply(func(any) (any, error) {
		giveUp() // in place of the time running out
		<-over
		return nil, context.Canceled
	}))
	start(t, r, path)
	defer close(over)
	s, err := Config{Ask: patient}.Inspect(ctx, path)
	if err != context.Canceled || s.Speaks != "gRPC" || s.Err == nil || !strings.Contains(s.Err.Error(), "asked for its name (runtime.v1), it answered Canceled") {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestCancelled(t *testing.T) {
	root := tempDir(t)
	ctx, cancel := context.WithCancel(context.Background())
	mkdir(t, filepath.Join(root, "run/crio"))
	serveWith(t, filepath.Join(root, "run/crio/crio.sock"), func(c net.Conn) {
		cancel() // while it is asked
		silent(c)
	})
	if s, err := (Config{Root: root, Ask: patient}).Sockets(ctx); err != context.Canceled || s != nil {
		t.Errorf("%v, %v", s, err)
	}
}

// A kubelet elsewhere replaces the usual ones.
func TestKubeletDir(t *testing.T) {
	root := tempDir(t)
	dead(t, filepath.Join(root, "var/lib/kubelet/plugins/a/csi.sock"))
	dead(t, filepath.Join(root, "data/plugins/b/csi.sock"))
	c := Config{Root: root, KubeletDir: "/data"}
	sockets, err := c.Sockets(context.Background())
	if err != nil || len(sockets) != 1 || sockets[0].Path != filepath.Join(root, "data/plugins/b/csi.sock") || sockets[0].Kind != CSI {
		t.Errorf("%+v, %v", sockets, err)
	}
	if want := []string{filepath.Join(root, "data/plugins"), filepath.Join(root, "data/plugins/b")}; !slices.Equal(c.Dirs(), want) {
		t.Errorf("looked in %v", c.Dirs())
	}
	if !slices.Contains(c.Places(), filepath.Join(root, "data/{plugins,device-plugins,plugins_registry,pod-resources}")) {
		t.Errorf("places %v", c.Places())
	}
}

// TestLoop: a link that leads to itself is named.
func TestLoop(t *testing.T) {
	c := Config{KubeletDir: tempDir(t)}
	loop := filepath.Join(c.KubeletDir, "plugins/loop/csi.sock")
	mkdir(t, filepath.Dir(loop))
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Found(t.Context()); err == nil || !strings.Contains(err.Error(), loop) {
		t.Errorf("%v", err)
	}
}
