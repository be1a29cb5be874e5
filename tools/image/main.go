// Command image makes the container image from executables: from scratch, with
// nothing in it but grpc-tap, as an OCI layout of one image for each platform. It
// pulls nothing, and the same executables give the same digests. Beside it, for each
// platform, goes DIR-ARCHITECTURE.spdx.json: what the executable is made of.
//
//	image -out DIR amd64=bin/grpc-tap-amd64 arm64=bin/grpc-tap-arm64
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	out := flag.String("out", "", "`DIR` of the OCI layout; what is there is replaced")
	version := flag.String("version", "dev", "org.opencontainers.image.version")
	created := flag.String("created", "1970-01-01T00:00:00Z", "when the SBOMs say that they were made, as in RFC 3339")
	revision := flag.String("revision", "", "org.opencontainers.image.revision")
	flag.Parse()
	if err := build(*out, *version, *revision, *created, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func build(out, version, revision, created string, executables []string) error {
	if out == "" || len(executables) == 0 {
		return errors.New("give -out DIR and ARCHITECTURE=EXECUTABLE, one or more")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, e := range executables {
		arch, file, ok := strings.Cut(e, "=")
		if !ok {
			return fmt.Errorf("%q is not ARCHITECTURE=EXECUTABLE", e)
		}
		img, err := imageOf(arch, file, map[string]string{
			"org.opencontainers.image.source": "https://github.com/grpc-tap/grpc-tap", "org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.version": version, "org.opencontainers.image.revision": revision,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := writeSBOM(out+"-"+arch+".spdx.json", file, created); err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	_, err := layout.Write(out, index)
	return err
}

// imageOf is an image of one layer, with one file.
func imageOf(arch, file string, labels map[string]string) (v1.Image, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err = w.WriteHeader(&tar.Header{Name: "grpc-tap", Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg, Format: tar.FormatPAX})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, l)
	if err != nil {
		return nil, err
	}
	c, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	c.Config.Entrypoint, c.Config.Labels = []string{"/grpc-tap"}, labels
	return mutate.ConfigFile(img, c)
}
