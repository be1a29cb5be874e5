package lab

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// Image is a container image of one layer, made here: the tests need no
// registry of anybody's.
type Image struct {
	Name       string // "lab/busybox:1"
	Entrypoint []string
	Cmd        []string
	User       string
	Files      []File
	// Note makes an image differ from one of the same content.
	Note string
}

// File is a file of an image; with Link a hard link to a file before it, with
// neither Link nor Data a directory.
type File struct {
	Path string
	Data []byte
	Link string
	Mode int64 // 0: 0755
}

// The images of every containerd of a lab.
const (
	PauseImage   = "lab.invalid/pause:1"
	BusyboxImage = "lab.invalid/busybox:1"
)

// Pause is an image of a static Go program, test/lab/pause.
func Pause(t testing.TB, name string) Image {
	t.Helper()
	return Image{Name: name, Cmd: []string{"/pause"}, Files: []File{{Path: "/pause", Data: Program(t, "pause")}}}
}

// Program is the binary of one of the static Go programs below test/lab.
func Program(t testing.TB, name string) []byte {
	t.Helper()
	build, _ := programs.LoadOrStore(name, sync.OnceValues(func() ([]byte, error) { return buildProgram(name) }))
	binary, err := build.(func() ([]byte, error))()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return binary
}

var programs sync.Map // name → func() ([]byte, error)

func buildProgram(name string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "gtlab-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	_, here, _, _ := runtime.Caller(0)
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir+"/program", "./"+name)
	cmd.Dir = filepath.Dir(here)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build test/lab/%s: %w: %s", name, err, out)
	}
	return os.ReadFile(dir + "/program")
}

// Busybox is an image of Debian's busybox-static with all its applets, as hard
// links: what is mounted over one does not cover the others.
func Busybox(t testing.TB, name string) Image {
	t.Helper()
	binary, err := os.ReadFile(need(t, "busybox"))
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	applets, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		t.Fatalf("lab: busybox --list: %v", err)
	}
	img := Image{Name: name, Cmd: []string{"/bin/sh"}, Files: []File{
		{Path: "/bin/busybox", Data: binary},
		{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n"), Mode: 0o644},
		{Path: "/etc/group", Data: []byte("root:x:0:\nwww-data:x:33:\n"), Mode: 0o644},
		{Path: "/root"}, {Path: "/tmp", Mode: 0o1777}, {Path: "/var/run"},
	}}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			img.Files = append(img.Files, File{Path: "/bin/" + applet, Link: "/bin/busybox"})
		}
	}
	return img
}

// layer is the image's file system as a tar archive.
func (img Image) layer() []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	made := map[string]bool{"/": true, ".": true}
	var mkdir func(dir string, mode int64)
	mkdir = func(dir string, mode int64) {
		if made[dir] {
			return
		}
		made[dir] = true
		mkdir(path.Dir(dir), 0o755)
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: mode, ModTime: time.Unix(0, 0)})
	}
	for _, f := range img.Files {
		mode := f.Mode
		if mode == 0 {
			mode = 0o755
		}
		if f.Data == nil && f.Link == "" {
			mkdir(f.Path, mode)
			continue
		}
		mkdir(path.Dir(f.Path), 0o755)
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path[1:], Mode: mode, Size: int64(len(f.Data)), ModTime: time.Unix(0, 0)}
		if f.Link != "" {
			h.Typeflag, h.Linkname = tar.TypeLink, f.Link[1:]
		}
		w.WriteHeader(h)
		w.Write(f.Data)
	}
	w.Close()
	return buf.Bytes()
}

// config is the image's configuration, whose digest is the image's id.
func (img Image) config(layer []byte) []byte {
	b, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"created":      "1970-01-01T00:00:00Z",
		"comment":      img.Note,
		"config":       map[string]any{"Entrypoint": img.Entrypoint, "Cmd": img.Cmd, "User": img.User, "Env": []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{digest(layer)}},
		"history":      []any{map[string]any{"created": "1970-01-01T00:00:00Z", "created_by": "test/lab"}},
	})
	if err != nil {
		panic(err) // strings and maps
	}
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Archive is the image as `docker save` would write it.
func (img Image) Archive() []byte {
	layer := img.layer()
	config := img.config(layer)
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": "config.json", "RepoTags": []string{img.Name}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		panic(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range []File{{Path: "config.json", Data: config}, {Path: "layer.tar", Data: layer}, {Path: "manifest.json", Data: manifest}} {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Path, Mode: 0o644, Size: int64(len(f.Data))})
		w.Write(f.Data)
	}
	w.Close()
	return buf.Bytes()
}
