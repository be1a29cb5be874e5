package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// TestBuild: the image has one layer for each platform, the same each time, and what
// it is made of is listed.
func TestBuild(t *testing.T) {
	self, err := os.Executable() // a Go executable, as good as any
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]bool{}
	dir := t.TempDir()
	for range 2 {
		out := filepath.Join(dir, "image")
		if err := build(out, "v1", "abc", "2026-01-01T00:00:00Z", []string{"amd64=" + self, "arm64=" + self}); err != nil {
			t.Fatal(err)
		}
		index, err := layout.ImageIndexFromPath(out)
		if err != nil {
			t.Fatal(err)
		}
		digest, _ := index.Digest()
		digests[digest.String()] = true
		manifest, err := index.IndexManifest()
		if err != nil || len(manifest.Manifests) != 2 {
			t.Fatalf("%+v, %v", manifest, err)
		}
		for i, arch := range []string{"amd64", "arm64"} {
			m := manifest.Manifests[i]
			img, err := index.Image(m.Digest)
			if err != nil {
				t.Fatal(err)
			}
			c, err := img.ConfigFile()
			if err != nil || m.Platform.Architecture != arch || c.Architecture != arch || !slices.Equal(c.Config.Entrypoint, []string{"/grpc-tap"}) || len(c.RootFS.DiffIDs) != 1 {
				t.Errorf("%s: %+v, %+v, %v", arch, m, c, err)
			}
		}
		b, err := os.ReadFile(out + "-arm64.spdx.json")
		var d document
		if err == nil {
			err = json.Unmarshal(b, &d)
		}
		if err != nil || !strings.Contains(string(b), "pkg:golang/github.com/google/go-containerregistry@v") || len(d.Packages) != len(d.Relationships) {
			t.Errorf("%v: %.300s", err, b)
		}
	}
	if len(digests) != 1 {
		t.Errorf("it is another each time: %v", digests)
	}
	for _, wrong := range [][]string{nil, {"amd64"}, {"amd64=" + dir + "/none"}} {
		if build(filepath.Join(dir, "x"), "v1", "", "", wrong) == nil {
			t.Errorf("%q is no error", wrong)
		}
	}
}
