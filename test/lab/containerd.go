package lab

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"
)

// Options are what a containerd of a lab may differ in; the zero value is
// Debian's, with the lab's two images.
type Options struct {
	// Binary is the containerd to run, beside whose its shim and ctr lie.
	// Empty: $GRPC_TAP_CONTAINERD, or else the one in PATH.
	Binary string
	// Socket is where it listens, below the lab's directory; "": containerd.sock.
	Socket string
	// Images to import beside pause and busybox.
	Images []Image
	// Mirror is a registry's host:port that every image name is pulled from.
	Mirror string
	// Env is added to containerd's environment: OTEL_EXPORTER_OTLP_ENDPOINT…
	Env []string
}

// Traces finds a containerd that can trace: the one that a lab runs, or else one
// that critest.sh has built. Debian's cannot; that can be mended, but by a build of
// minutes, so it skips the test.
func Traces(t testing.TB) (binary string) {
	t.Helper()
	first := cmp.Or(os.Getenv("GRPC_TAP_CONTAINERD"), need(t, "containerd"))
	cache, err := filepath.Abs("../../.cache") // a test's directory is two below the checkout's
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	built, _ := filepath.Glob(cache + "/v*/containerd")
	for _, path := range append([]string{first}, built...) {
		if canTrace(path) {
			return path
		}
	}
	t.Skipf("no containerd here can trace: %s is built without OpenTelemetry, and .cache has none (make e2e builds one)", first)
	return ""
}

// Traces says whether this one can.
func (r *Runtime) Traces() bool { return canTrace(r.argv[0]) }

// canTrace says whether a program has the exporter that containerd traces by.
func canTrace(path string) bool {
	program, err := os.ReadFile(path)
	return err == nil && bytes.Contains(program, []byte("otlptracegrpc"))
}

// TracingTo is the environment of a containerd that traces to a collector in the
// lab, which nothing but the environment makes it do.
func TracingTo(address string) []string {
	return []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + address, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}
}

// Runtime is a containerd that runs.
type Runtime struct {
	*Lab
	*Process
	Socket  string
	CTR     string // the ctr that goes with it
	Version string // "1.6.20~ds1", "v2.4.2+unknown"

	argv, env []string
}

// Containerd starts a containerd in a lab of its own and imports its images.
// It ends with the test.
func Containerd(t testing.TB, o Options) *Runtime {
	t.Helper()
	return New(t).Containerd(o)
}

// Containerd starts a containerd in the lab and imports its images.
func (l *Lab) Containerd(o Options) *Runtime {
	t := l.t
	t.Helper()
	l.isolate()
	c := l.containerdFiles(o)
	r := &Runtime{Lab: l, Socket: c.Socket, CTR: c.ctr, Version: c.version}
	// containerd looks for shims in PATH, and Debian's would not do for 2.x.
	env := append([]string{"PATH=" + filepath.Dir(c.binary) + ":" + os.Getenv("PATH")}, o.Env...)
	r.env, r.argv = env, []string{c.binary, "--config", l.Write("containerd.toml", c.render(t))}
	r.StartAgain()
	for _, img := range append([]Image{Pause(t, PauseImage), Busybox(t, BusyboxImage)}, o.Images...) {
		archive := l.Write("image.tar", string(img.Archive()))
		if _, err := l.Run(c.ctr, "--address", r.Socket, "--namespace", "k8s.io", "images", "import", archive); err != nil {
			t.Fatalf("lab: import %s: %v", img.Name, err)
		}
		os.Remove(archive)
	}
	return r
}

// StartAgain starts containerd once more after its process has ended, and waits
// until it accepts.
func (r *Runtime) StartAgain() {
	r.Lab.t.Helper()
	r.Process = r.Lab.Start("containerd", r.env, r.argv...)
	r.Process.Accepts(r.Socket, 30*time.Second)
}

// containerd is what its configuration is rendered from.
type containerd struct {
	binary, ctr, version string

	Dir, Socket, Shim, Runc, Pause, Certs string
}

// containerdFiles finds the programs, and writes the files that the
// configuration points to.
func (l *Lab) containerdFiles(o Options) containerd {
	t := l.t
	t.Helper()
	c := containerd{binary: o.Binary, Dir: l.Dir, Socket: l.Path(cmp.Or(o.Socket, "containerd.sock")), Runc: need(t, "runc"), Pause: PauseImage}
	if c.binary == "" {
		c.binary = os.Getenv("GRPC_TAP_CONTAINERD")
	}
	if c.binary == "" {
		c.binary = need(t, "containerd")
	}
	c.binary = needFile(t, c.binary)
	c.ctr = needFile(t, filepath.Join(filepath.Dir(c.binary), "ctr"))
	c.Shim = needFile(t, filepath.Join(filepath.Dir(c.binary), "containerd-shim-runc-v2"))
	needFile(t, cniBin+"/ptp")
	need(t, "iptables") // CNI's portmap calls it

	out, err := exec.Command(c.binary, "--version").Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 3 {
		t.Fatalf("lab: %s --version: %v: %q", c.binary, err, out)
	}
	c.version = fields[2]
	l.Write("cni/10-lab.conflist", strings.NewReplacer("NAME", filepath.Base(l.Dir), "DATA", l.Path("ipam")).Replace(cniConf))
	if o.Mirror != "" {
		l.Write("certs.d/_default/hosts.toml", fmt.Sprintf("[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+o.Mirror))
		c.Certs = l.Path("certs.d")
	}
	return c
}

func (c containerd) render(t testing.TB) string {
	text := configV2
	if strings.HasPrefix(c.version, "v2.") || strings.HasPrefix(c.version, "2.") {
		text = configV3
	}
	var buf bytes.Buffer
	if err := template.Must(template.New("").Parse(text)).Execute(&buf, c); err != nil {
		t.Fatalf("lab: %v", err)
	}
	return buf.String()
}
