package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Registry is Debian's docker-registry, on 127.0.0.1 in the lab's network
// namespace, for what is to be really pulled: containerd takes it for every
// registry (Options.Mirror), so that images keep the names they have.
type Registry struct {
	Address string // host:port
	lab     *Lab
	client  *http.Client
}

// Registry starts a registry in the lab.
func (l *Lab) Registry() *Registry {
	l.t.Helper()
	l.isolate()
	r := &Registry{Address: "127.0.0.1:5000", lab: l}
	config := l.Write("registry.yml", fmt.Sprintf(
		"version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", l.Path("registry"), r.Address))
	p := l.Start("registry", nil, need(l.t, "docker-registry"), "serve", config)
	r.client = l.Client()
	p.Until("it answers", 10*time.Second, func() bool {
		res, err := r.client.Get("http://" + r.Address + "/v2/")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
	return r
}

// Push stores an image under its name: "repository:tag", without a host.
func (r *Registry) Push(t testing.TB, img Image) {
	t.Helper()
	repository, tag, _ := strings.Cut(img.Name, ":")
	layer := img.layer()
	config := img.config(layer)
	blob := func(mediaType string, b []byte) map[string]any {
		if err := r.pushBlob(repository, b); err != nil {
			t.Fatalf("lab: push %s: %v", img.Name, err)
		}
		return map[string]any{"mediaType": mediaType, "size": len(b), "digest": digest(b)}
	}
	const manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifestType,
		"config":        blob("application/vnd.docker.container.image.v1+json", config),
		"layers":        []any{blob("application/vnd.docker.image.rootfs.diff.tar", layer)},
	})
	if err == nil {
		_, err = r.do("PUT", "http://"+r.Address+"/v2/"+repository+"/manifests/"+tag, manifestType, manifest)
	}
	if err != nil {
		t.Fatalf("lab: push %s: %v", img.Name, err)
	}
}

func (r *Registry) pushBlob(repository string, b []byte) error {
	base := "http://" + r.Address + "/v2/" + repository + "/blobs/"
	if _, err := r.do("HEAD", base+digest(b), "", nil); err == nil {
		return nil // there already: images share their layers
	}
	res, err := r.do("POST", base+"uploads/", "", nil)
	if err != nil {
		return err
	}
	at, err := res.Location()
	if err != nil {
		return err
	}
	q := at.Query()
	q.Set("digest", digest(b))
	at.RawQuery = q.Encode()
	_, err = r.do("PUT", at.String(), "application/octet-stream", b)
	return err
}

func (r *Registry) do(method, url, contentType string, body []byte) (*http.Response, error) {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	said, _ := io.ReadAll(res.Body)
	if res.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, url, res.Status, said)
	}
	return res, nil
}
