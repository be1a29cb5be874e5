package schema

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestTables: every name in the tables and paths exists, no listed field is one
// that its API marks as secret, every nested message has an entry, every service
// is named.
func TestTables(t *testing.T) {
	for _, a := range tables() {
		c := compileAPI(a)
		for _, err := range c.problems {
			t.Errorf("%s: %v", a.name, err)
		}
		for _, m := range c.order {
			if !slices.Contains(a.services, m.Service) {
				t.Errorf("%s: %s is not among its services", a.name, m.Service)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	count := map[string]int{}
	for m := range Methods() {
		count[m.Service]++
		if (&APIs{}).Lookup(m.Service, m.Name) != m {
			t.Errorf("%s/%s is not found by its name", m.Service, m.Name)
		}
	}
	for _, s := range Services() {
		if count[s.Name] == 0 {
			t.Errorf("%s has no methods", s.Name)
		}
	}
	if n := count["runtime.v1.RuntimeService"] + count["runtime.v1.ImageService"]; n != 43 {
		t.Errorf("%d methods of CRI, want 43", n)
	}
	var none *APIs
	if none.Lookup("runtime.v1.RuntimeService", "version") != nil || none.Lookup("runtime.v1alpha2.RuntimeService", "Version") != nil {
		t.Error("found a method that is not there")
	}
	if !none.Lookup("runtime.v1.RuntimeService", "GetContainerEvents").ServerStreaming {
		t.Error("GetContainerEvents does not stream")
	}
	if w := none.Lookup("etcdserverpb.Watch", "Watch"); !w.ServerStreaming || !w.ClientStreaming {
		t.Error("Watch does not stream both ways")
	}
}

// TestVerdicts holds the decision on every field of every message of every
// method: testdata/verdicts.txt is what `grpc-tap version --schema` prints. A new
// release of an API, or an edit of a table, is a diff of it; `go test -update`
// writes it. Look at each line of the diff: does it hold a secret? Then it
// belongs into secrets.txt.
func TestVerdicts(t *testing.T) {
	var got bytes.Buffer
	must(t, Describe(&got))
	const path = "testdata/verdicts.txt"
	if *update {
		must(t, os.WriteFile(path, got.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s no longer says what shows; go test -update, and read the diff", path)
	}
}

// secretCorpus are the fields of testdata/secrets.txt.
func secretCorpus(t *testing.T) (names []string) {
	b, err := os.ReadFile("testdata/secrets.txt")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			name, _ := strings.CutSuffix(line, " never")
			names = append(names, name)
		}
	}
	return names
}

func TestSecretsAreNotListed(t *testing.T) {
	all := map[string]bool{}
	for _, p := range reachable() {
		for i := range p.d.Fields().Len() {
			all[string(p.d.Fields().Get(i).FullName())] = true
		}
	}
	corpus := secretCorpus(t)
	for _, name := range corpus {
		whole := strings.HasSuffix(name, ".")
		exists := false
		for field := range all {
			exists = exists || field == name || whole && strings.HasPrefix(field, name)
		}
		if !exists {
			t.Errorf("%s does not exist: secrets.txt is out of date", name)
		}
	}
	marked := 0
	for _, p := range reachable() {
		fields := listed(p.api, p.d)
		for i := range p.d.Fields().Len() {
			fd := p.d.Fields().Get(i)
			_, shows := fields[fd.Name()]
			isSecret := oracle{api: p.api}.withheld(fd)
			if isSecret && !slices.Contains(p.api.never, fd.FullName()) {
				marked++
			}
			for _, name := range corpus {
				isSecret = isSecret || name == string(fd.FullName()) || strings.HasSuffix(name, ".") && strings.HasPrefix(string(fd.FullName()), name)
			}
			if isSecret && shows {
				t.Errorf("%s is secret and listed", fd.FullName())
			}
		}
	}
	if marked != 22+4 { // csi_secret and debug_redact
		t.Errorf("the APIs mark %d fields as secret, want 26: were they found?", marked)
	}
}

// TestKeys: no map that drivers or users fill shows a key that is not
// Kubernetes' own, and few show keys that nobody has listed.
func TestKeys(t *testing.T) {
	anyKeys := []protoreflect.FullName{
		"csi.v1.Topology.segments", "google.rpc.ErrorInfo.metadata", // by drivers' own keys
		"k8s.io.kubelet.pkg.apis.dra.v1.NodePrepareResourcesResponse.claims", "k8s.io.kubelet.pkg.apis.dra.v1.NodeUnprepareResourcesResponse.claims",
		"k8s.io.kubelet.pkg.apis.dra.v1beta1.NodePrepareResourcesResponse.claims", "k8s.io.kubelet.pkg.apis.dra.v1beta1.NodeUnprepareResourcesResponse.claims",
	}
	for _, p := range reachable() {
		for name, entry := range listed(p.api, p.d) {
			field, keys := p.d.FullName().Append(name), entry[1]
			switch {
			case keys == "*" && !slices.Contains(anyKeys, field):
				t.Errorf("%s shows any key", field)
			case strings.Contains(keys, "serviceAccount"):
				t.Errorf("%s shows tokens", field)
			}
			for _, key := range strings.Fields(keys) {
				ours := strings.HasPrefix(key, "io.kubernetes.") || strings.HasPrefix(key, "csi.storage.k8s.io/") || key == "io.cri-containerd.kind"
				if !ours && key != "*" && name != "unified" {
					t.Errorf("%s shows %q", field, key)
				}
			}
		}
	}
}

// TestMistakes: what a maintainer may get wrong in a table is found, and the
// field stays hidden.
func TestMistakes(t *testing.T) {
	const request = "runtime.v1.PullImageRequest"
	for entry, problem := range map[string]string{
		request + " imge":       "no such field",
		request + " auth":       "runtime.v1.AuthConfig has no entry",
		request + " image[key]": "a map, and only a map",
		"runtime.v1.UpdateContainerResourcesRequest annotations": "a map, and only a map",
		"runtime.v1.AuthConfig password":                         "marks it as secret",
		"runtime.v1.AuthConfig username":                         "never to be shown",
		"runtime.v1.PullImageRequets image":                      "no method's messages hold it",
		"runtime.v1.ImageService/PullImage request.img":          "has no field \"img\"",
		"runtime.v1.ImageService/PullImage request.image":        "is not a string",
		"runtime.v1.ImageService/PullImage image.image":          "neither request nor response",
		"runtime.v1.ImageService/ListImages response.images":     "is a list",
		"runtime.v1.ImageService/Pull request.image.image":       "no such method",
	} {
		name, rest, _ := strings.Cut(entry, " ")
		a := cri()
		a.shown, a.about, a.never = table{}, about{}, []protoreflect.FullName{"runtime.v1.AuthConfig.username"}
		if strings.Contains(name, "/") {
			a.about[name] = sources{{factImage, rest}}
		} else {
			a.shown[protoreflect.FullName(name)] = []string{rest}
		}
		if name == "runtime.v1.AuthConfig" {
			a.shown[request] = []string{"auth"}
		}
		c := compileAPI(a)
		if len(c.problems) != 1 || !strings.Contains(c.problems[0].Error(), problem) {
			t.Errorf("%s: problems %v, want one with %q", entry, c.problems, problem)
		}
		for _, p := range payloads() {
			if p.api.name != "cri" {
				continue
			}
			if out, _ := render(c.messages[p.d.FullName()], marshal(t, filled(p.api, p.d, 3)), true, unlimited); bytes.Contains(out, []byte("canary")) {
				t.Errorf("%s: shows %s", entry, out)
			}
		}
	}
}

// TestFactsAreShown: what a call is about leaves the node with every record, so
// it is read only from fields that may be shown.
func TestFactsAreShown(t *testing.T) {
	for _, a := range tables() {
		files, err := a.files()
		must(t, err)
		all := maps.Clone(a.about)
		for name, lists := range a.listings {
			for field, from := range lists {
				for _, s := range from {
					all[name] = append(all[name], source{s.fact, "response." + string(field) + "." + s.path})
				}
			}
		}
		for name, from := range all {
			service, method, _ := strings.Cut(name, "/")
			s, err := files.FindDescriptorByName(protoreflect.FullName(service))
			must(t, err)
			m := s.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
			for _, s := range from {
				path, key, _ := strings.Cut(strings.TrimSuffix(s.path, "]"), "[")
				names := strings.Split(path, ".")
				d := m.Input()
				if names[0] == "response" {
					d = m.Output()
				}
				for _, n := range names[1:] {
					fd := d.Fields().ByName(protoreflect.Name(n))
					entry, ok := listed(a, d)[fd.Name()]
					if !ok || key != "" && fd.IsMap() && !slices.Contains(strings.Fields(entry[1]), key) || entry[0] == "text" {
						t.Errorf("%s: %s is a fact and not shown", name, s.path)
					}
					d = fd.Message()
				}
			}
		}
	}
}
