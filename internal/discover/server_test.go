package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// refusing is a kernel without unix_diag.
func refusing(*os.File) ([]sock, error) { return nil, unix.EPERM }

// After a takeover the socket that was renamed away is still its server's,
// though that listens by the old name, and the path is whose file lies there.
func TestServersAfterARename(t *testing.T) {
	for name, c := range map[string]Config{"unix_diag": {Ask: 1}, "without": {Ask: 1, diag: refusing}} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			path, aside := filepath.Join(dir, "x.sock"), filepath.Join(dir, ".x.sock.up")
			pid, _ := another(t, nil, "listen", "/", path)
			if err := os.Rename(path, aside); err != nil {
				t.Fatal(err)
			}
			listenAt(t, path)
			if s := inspect(t, c, path); !reflect.DeepEqual(s.Servers, self()) {
				t.Errorf("the path is served by %+v", s.Servers)
			}
			want := process(pid)
			want.Creator = c.diag != nil // its name leads to another's file
			if s := inspect(t, c, aside); !reflect.DeepEqual(s.Servers, []Process{want}) {
				t.Errorf("the socket aside is served by %+v, not %+v", s.Servers, want)
			}
		})
	}
}

// The driver's path is another in its container, its network too.
func TestServerInOtherNamespaces(t *testing.T) {
	dir := tempDir(t)
	pid, _ := another(t, isolated(t, syscall.CLONE_NEWNET), "listen", dir, "csi.sock")
	for name, c := range map[string]Config{"unix_diag": {Ask: 1}, "without": {Ask: 1, diag: refusing}} {
		want := process(pid)
		want.Creator = c.diag != nil // a relative name leads nowhere
		if s := inspect(t, c, filepath.Join(dir, "csi.sock")); !reflect.DeepEqual(s.Servers, []Process{want}) {
			t.Errorf("%s: served by %+v", name, s.Servers)
		}
	}
}

// By its name in /proc/net/unix, a listener is found in another network too.
func TestServerInOtherNetworkByName(t *testing.T) {
	path := filepath.Join(tempDir(t), "csi.sock")
	pid, _ := another(t, isolated(t, syscall.CLONE_NEWNET), "listen", "/", path)
	s := inspect(t, Config{Ask: 1, diag: refusing}, path)
	if !reflect.DeepEqual(s.Servers, []Process{process(pid)}) {
		t.Errorf("served by %+v", s.Servers)
	}
}

// A socket-activated server shares its listener with who made it.
func TestSeveralServers(t *testing.T) {
	path := filepath.Join(tempDir(t), "s.sock")
	f, err := listenAt(t, path).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pid, stop := another(t, func(c *exec.Cmd) { c.ExtraFiles = []*os.File{f} }, "hold")
	s := inspect(t, Config{Ask: 1}, path)
	if want := processes([]int{pid, os.Getpid()}); !reflect.DeepEqual(s.Servers, want) {
		t.Errorf("served by %+v, not %+v", s.Servers, want)
	}
	stop()
	if s := inspect(t, Config{Ask: 1}, path); !reflect.DeepEqual(s.Servers, self()) {
		t.Errorf("served by %+v after the other's end", s.Servers)
	}
}

// sun_path holds 107 bytes. A socket bound as a relative name may lie deeper.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(tempDir(t), strings.Repeat("d", 100), strings.Repeat("e", 100))
	mkdir(t, dir)
	pid, stop := another(t, nil, "listen", dir, "s.sock")
	s := inspect(t, Config{Ask: 1}, filepath.Join(dir, "s.sock"))
	if s.Dead || !reflect.DeepEqual(s.Servers, []Process{process(pid)}) {
		t.Errorf("%+v", s)
	}
	stop()
	if s := inspect(t, Config{}, filepath.Join(dir, "s.sock")); !s.Dead || s.Err != nil || s.Servers != nil {
		t.Errorf("after its server's end: %+v", s)
	}
}

// On overlayfs with its layers on several file systems, stat(2) has a device
// that unix_diag never tells.
func TestServerOnOverlay(t *testing.T) {
	another(t, isolated(t, syscall.CLONE_NEWNS), "overlay", tempDir(t))
}

func playOverlay(dir string) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("lower", dir, "tmpfs", 0, ""),
		os.Mkdir(at("layers"), 0o755), os.Mkdir(at("lower"), 0o755), os.Mkdir(at("merged"), 0o755),
		unix.Mount("upper", at("layers"), "tmpfs", 0, ""),
		os.Mkdir(at("layers/upper"), 0o755), os.Mkdir(at("layers/work"), 0o755))
	if err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("layers/upper"), at("layers/work"))
	if err := unix.Mount("overlay", at("merged"), "overlay", 0, options); err != nil {
		fmt.Fprintln(os.Stderr, "there is no overlayfs here, so nothing is tested:", err)
		return nil
	}
	l, err := net.Listen("unix", at("merged/s.sock"))
	if err != nil {
		return err
	}
	defer l.Close()
	var st unix.Stat_t
	file, err := openSocket(at("merged/s.sock"), readMounts())
	if err != nil {
		return err
	}
	defer file.close()
	if err := unix.Fstat(file.fd, &st); err != nil {
		return err
	}
	if device(unix.Major(st.Dev), unix.Minor(st.Dev)) == file.bound.dev {
		return errors.New("stat(2) and mountinfo agree: this tests nothing")
	}
	s, err := Config{Ask: 1}.Inspect(context.Background(), at("merged/s.sock"))
	if err == nil && !reflect.DeepEqual(s.Servers, self()) {
		err = fmt.Errorf("served by %+v", s.Servers)
	}
	return err
}

// The kubelet's directory may be mounted; what is mounted below it are volumes,
// into which nobody looks.
func TestMounts(t *testing.T) {
	another(t, isolated(t, syscall.CLONE_NEWNS), "mounted", tempDir(t))
}

func playMounted(root string) error {
	plugins := filepath.Join(root, "var/lib/kubelet/plugins")
	volume := filepath.Join(plugins, "a", "volume")
	err := errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		os.MkdirAll(plugins, 0o755), unix.Mount("plugins", plugins, "tmpfs", 0, ""),
		os.MkdirAll(volume, 0o755), unix.Mount("volume", volume, "tmpfs", 0, ""))
	if err != nil {
		return err
	}
	for _, dir := range []string{plugins, volume} {
		l, err := net.Listen("unix", filepath.Join(dir, "s.sock"))
		if err != nil {
			return err
		}
		defer l.Close()
	}
	sockets, err := Config{Root: root, Ask: 1}.Sockets(context.Background())
	if err != nil || len(sockets) != 1 || sockets[0].Path != filepath.Join(plugins, "s.sock") || !reflect.DeepEqual(sockets[0].Servers, self()) {
		return fmt.Errorf("found %+v, %v", sockets, err)
	}
	return nil
}

// Without rights, what can be told is told, and what can't be is not made up.
func TestNotRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	dir := tempDir(t)
	path := filepath.Join(dir, "s.sock")
	listenAt(t, path)
	dial(t, path)
	if err := errors.Join(os.Chmod(path, 0o666), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed.sock")
	listenAt(t, closed)
	if err := os.Chmod(closed, 0o600); err != nil {
		t.Fatal(err)
	}
	another(t, nil, "nobody", dir)
}

func playNobody(dir string) error {
	const nobody = 65534
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
		return err
	}
	creator := Process{PID: os.Getppid(), Creator: true}
	s, err := Config{Ask: 1}.Inspect(context.Background(), filepath.Join(dir, "s.sock"))
	if err != nil || s.Dead || !reflect.DeepEqual(s.Servers, []Process{creator}) {
		return fmt.Errorf("%+v, %v", s, err)
	}
	s, err = Config{Ask: 1}.Inspect(context.Background(), filepath.Join(dir, "closed.sock"))
	if err != nil || s.Dead || s.Speaks != "" || s.Servers != nil || !errors.Is(s.Err, unix.EACCES) {
		return fmt.Errorf("closed: %+v, %v", s, err)
	}
	if all, err := Clients(filepath.Join(dir, "s.sock")); all != nil || err == nil || !strings.Contains(err.Error(), "the processes of 1 of its connections could not be looked into") {
		return fmt.Errorf("clients %+v, %v", all, err)
	}
	return nil
}
