package takeover

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountinfoIsRead(t *testing.T) {
	const long = "7 1 0:5 / /long rw - overlay overlay rw,lowerdir="
	in := strings.Join([]string{
		`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`,
		`37 35 0:25 /a\040b/.s\134t\011u\012v//deleted /x\040y rw - tmpfs tmpfs rw`,
		`38 35 0:30 /.. /sys/fs/cgroup rw shared:1 master:2 propagate_from:3 unbindable - cgroup2  rw,nsdelegate`,
		`too short`,
		`39 35 0:25 / / rw no dash`,
		long + strings.Repeat("/layer:", 20000) + ` 8 1 0:5 /no /no rw - x x x`,
		`40 35 0:25 /last\04 /\9999 rw - tmpfs none rw`,
	}, "\n")
	got := slices.Collect(mountsIn(strings.NewReader(in)))
	if len(got) == 5 {
		got[3].super = got[3].super[:10]
	}
	want := []mountEntry{
		{"36", "/mnt1", "/mnt2", "ext3", "rw,errors=continue"},
		{"37", "/a b/.s\\t\tu\nv//deleted", "/x y", "tmpfs", "rw"},
		{"38", "/..", "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate"},
		{"7", "/", "/long", "overlay", "rw,lowerdi"},
		{"40", `/last\04`, `/\9999`, "tmpfs", "rw"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("read  %+v\nwanted %+v", got, want)
	}
}

func TestPodUID(t *testing.T) {
	const uid, static = "9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00", "9f3c1c8e0c554d0b9b0e7d8b6a9c1f00"
	for cgroup, want := range map[string]string{
		"0::/kubepods/burstable/pod" + uid + "/0123abc\n":                                                            uid,
		"3:cpu,cpuacct:/kubepods/pod" + uid + "\n0::/\n":                                                             uid,
		"0::/kubelet/kubepods/besteffort/pod" + static + "/x\n":                                                      static,
		"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + underscored(uid) + ".slice/c.scope\n": uid,
		"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + static + ".slice/c.scope\n":                static,
		"0::/system.slice/containerd.service/kubepods-besteffort-pod" + underscored(uid) + ".slice:cri-containerd:x": uid,
		"0::/../../pod" + uid + "/x\n":                                                                               uid, // from a container of another pod
		"0::/../../../besteffort/pod" + uid + "/x\n":                                                                 uid,
		"0::/../podman.slice/x\n":                                                                                    "",
		"0::/user.slice/user-0.slice\n":                                                                              "",
		"0::/kubepods/burstable\n":                                                                                   "",
		"":                                                                                                           "",
	} {
		if got := podUID(cgroup); got != want {
			t.Errorf("%q is in pod %q, and read as %q", cgroup, want, got)
		}
	}
}

func underscored(uid string) string { return strings.ReplaceAll(uid, "-", "_") }

// fakeProc is a made-up /proc: by pid and name what a file holds. What begins
// with "->" is a link.
func fakeProc(t *testing.T, files map[string]string) procDir {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		if to, link := strings.CutPrefix(text, "->"); err == nil && link {
			err = os.Symlink(to, name)
		} else if err == nil {
			err = os.WriteFile(name, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return procDir(root)
}

func relaySocket(base string) bool { return strings.HasPrefix(base, ".s.grpc-tap-") }

func TestHoldersOfMadeUpProcesses(t *testing.T) {
	const line = "1 0 0:1 / / rw - ext4 x rw\n"
	p := fakeProc(t, map[string]string{
		"self":        "->5",
		"5/ns/mnt":    "->mnt:[1]", // ourselves
		"5/mountinfo": line + "2 1 0:1 /run/.s.grpc-tap-1 /here rw - ext4 x rw\n",
		"40/ns/mnt":   "->mnt:[1]",
		"40/mountinfo": line + "2 1 0:1 /run/.s.grpc-tap-1 /here rw - ext4 x rw\n" +
			"3 1 0:1 /run/.s.grpc-tap-1 /here rw - ext4 x rw\n", // once more, over it
		"40/comm":           "other\n",
		"100/ns/mnt":        "->mnt:[2]",
		"100/mountinfo":     line + "4 1 0:1 /r/.s.grpc-tap-2//deleted /a\\040b rw - ext4 x rw\n5 1 0:1 /r/.s.grpc-tap-3 /c rw - ext4 x rw\n",
		"100/comm":          "app\n",
		"100/cgroup":        "0::/kubepods/pod9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00/x\n",
		"100/root/etc/host": "web-0\n",
		// As a container's link would be read if its root were not ours to resolve it from.
		"100/root/etc/hostname": "->/etc/host",
		"200/ns/mnt":            "->mnt:[2]", // the same namespace as 100's
		"200/mountinfo":         line + "4 1 0:1 /r/.s.grpc-tap-2//deleted /a\\040b rw - ext4 x rw\n",
		"300/ns/mnt":            "->mnt:[3]", // vanished in between: 400 stands in
		"400/ns/mnt":            "->mnt:[3]",
		"400/mountinfo":         "6 1 0:1 /r/.s.grpc-tap-2 /d rw - ext4 x rw\n7 1 0:1 /r /run rw - ext4 x rw\n",
		"500/comm":              "zombie",
		// We may not ask for these ones' namespaces, of which there are two.
		"600/mountinfo": "8 1 0:1 /r/.s.grpc-tap-2 /e rw - ext4 x rw\n",
		"700/mountinfo": "8 1 0:1 /r/.s.grpc-tap-2 /e rw - ext4 x rw\n",
		"800/mountinfo": "9 1 0:1 /r/.s.grpc-tap-2 /e rw - ext4 x rw\n",
	})
	got, err := p.holders(5, relaySocket)
	const pod = "9f3c1c8e-0c55-4d0b-9b0e-7d8b6a9c1f00"
	want := []Holder{
		{40, "other", "", "", "/here", ".s.grpc-tap-1", "/run"},
		{100, "app", pod, "web-0", "/a b", ".s.grpc-tap-2", "/r"},
		{100, "app", pod, "web-0", "/c", ".s.grpc-tap-3", "/r"},
		{400, "", "", "", "/d", ".s.grpc-tap-2", "/r"},
		{600, "", "", "", "/e", ".s.grpc-tap-2", "/r"},
		{800, "", "", "", "/e", ".s.grpc-tap-2", "/r"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("found  %+v, %v\nwanted %+v", got, err, want)
	}
	if _, err := procDir(filepath.Join(t.TempDir(), "none")).holders(5, relaySocket); err == nil {
		t.Error("no error where there is no /proc")
	}
}

// What a container has put in place of its /etc/hostname is not opened.
func TestHostnameOfAHostileContainer(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(at string) error{
		"a link to the host's file": func(at string) error { return os.Symlink(secret, at) },
		"a link upward":             func(at string) error { return os.Symlink(strings.Repeat("../", 20)+secret, at) },
		"a fifo":                    func(at string) error { return unix.Mkfifo(at, 0o600) },
		"a directory":               func(at string) error { return os.Mkdir(at, 0o700) },
		"nothing":                   func(string) error { return nil },
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := put(filepath.Join(root, "etc/hostname")); err != nil {
			t.Fatal(err)
		}
		if got := hostname(root); got != "" {
			t.Errorf("%s: read %q", name, got)
		}
	}
}

// A process in a mount namespace of its own holds our socket, under whatever
// name it has, and after it has none.
func TestHoldersOfARealMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: it makes a mount namespace")
	}
	dir := t.TempDir()
	name, at, host := filepath.Join(dir, ".s.grpc-tap-1"), filepath.Join(dir, "in the pod"), filepath.Join(dir, "host")
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	lis.SetUnlinkOnClose(false)
	defer lis.Close()
	for file, text := range map[string]string{at: "", host: "web-0\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pid := mountInNamespace(t, name, at, host)
	check := func(file string) {
		t.Helper()
		all, err := holders(func(base string) bool { return base == file })
		mine := slices.DeleteFunc(all, func(h Holder) bool { return h.At != at })
		if err != nil || len(mine) != 1 || mine[0].PID != pid || mine[0].File != file || mine[0].Comm == "" {
			t.Fatalf("found %+v, %v; wanted %s at %s in pid %d", mine, err, file, at, pid)
		}
		if _, err := os.Stat("/etc/hostname"); err == nil && mine[0].Host != "web-0" {
			t.Errorf("its hostname is %q", mine[0].Host)
		}
	}
	check(".s.grpc-tap-1")
	renamed := filepath.Join(dir, ".s.grpc-tap-2")
	if err := os.Rename(name, renamed); err != nil {
		t.Fatal(err)
	}
	check(".s.grpc-tap-2")
	// Unlinking a file that is a mount point elsewhere is no problem either.
	if err := os.Remove(renamed); err != nil {
		t.Fatal(err)
	}
	check(".s.grpc-tap-2")
}

// mountInNamespace starts a process that has name mounted at at, and host at
// /etc/hostname, until the test ends.
func mountInNamespace(t *testing.T, name, at, host string) (pid int) {
	t.Helper()
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("needs unshare(1):", err)
	}
	const script = `mount --bind "$1" "$2" || exit
if [ -e /etc/hostname ]; then mount --bind "$3" /etc/hostname || exit; fi
echo mounted; read _`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", name, at, host)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if said, _ := bufio.NewReader(out).ReadString('\n'); said != "mounted\n" {
		_ = cmd.Wait()
		t.Skipf("can't mount in a namespace of its own: %s", stderr.String())
	}
	return cmd.Process.Pid
}
