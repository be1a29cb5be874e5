package schema

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "rewrite testdata/fields.txt")

// TestTables: every name in the tables and paths exists, no listed field is one
// that its API marks as secret, every nested message has an entry.
func TestTables(t *testing.T) {
	for _, err := range known().problems {
		t.Error(err)
	}
}

func TestMethods(t *testing.T) {
	count := map[string]int{}
	for m := range Methods() {
		api, _, _ := strings.Cut(m.Service, ".v1.")
		count[api]++
		if Lookup(m.Service, m.Name) != m {
			t.Errorf("%s/%s is not found by its name", m.Service, m.Name)
		}
	}
	if count["runtime"] != 43 || count["csi"] != 36 || len(count) != 2 {
		t.Errorf("methods: %v, want 43 of CRI and 36 of CSI", count)
	}
	if Lookup("runtime.v1.RuntimeService", "version") != nil || Lookup("runtime.v1alpha2.RuntimeService", "Version") != nil {
		t.Error("found a method that is not there")
	}
	if !Lookup("runtime.v1.RuntimeService", "GetContainerEvents").ServerStreaming {
		t.Error("GetContainerEvents does not stream")
	}
}

// reachable is every message that a payload can hold, by name.
func reachable() map[protoreflect.FullName]protoreflect.MessageDescriptor {
	all := map[protoreflect.FullName]protoreflect.MessageDescriptor{}
	var visit func(d protoreflect.MessageDescriptor)
	visit = func(d protoreflect.MessageDescriptor) {
		if d == nil || all[d.FullName()] != nil || d.IsMapEntry() {
			return
		}
		all[d.FullName()] = d
		for i := range d.Fields().Len() {
			visit(d.Fields().Get(i).Message())
		}
	}
	for _, d := range payloads() {
		visit(d)
	}
	return all
}

// TestFields holds the decision on every field of every message: testdata/fields.txt
// shows in a diff what a new release of an API, or an edit of a table, shows or
// hides. `go test -update` writes it; read the diff.
func TestFields(t *testing.T) {
	var lines []string
	for _, d := range reachable() {
		shown := shownFields(d)
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			keys, ok := shown[fd]
			sign := "hide"
			if ok {
				sign = "show"
			}
			if keys != "" {
				keys = "[" + keys + "]"
			}
			lines = append(lines, fmt.Sprintf("%s.%s%s %s\n", d.FullName(), fd.Name(), keys, sign))
		}
	}
	slices.Sort(lines)
	got := []byte(strings.Join(lines, ""))
	const path = "testdata/fields.txt"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s no longer says what shows; go test -update, and read the diff", path)
	}
}

// secrets are fields that hold secrets although no API marks them (FACTS §3, §4,
// or free text). A name that ends in a dot stands for a whole message.
var secrets = []string{
	"runtime.v1.AuthConfig.",
	"runtime.v1.KeyValue.",
	"runtime.v1.ContainerConfig.envs", "runtime.v1.ContainerConfig.command", "runtime.v1.ContainerConfig.args",
	"runtime.v1.ContainerConfig.annotations", "runtime.v1.PodSandboxConfig.annotations", "runtime.v1.PodSandbox.annotations",
	"runtime.v1.PodSandboxStatus.annotations", "runtime.v1.PodSandboxAttributes.annotations", "runtime.v1.Container.annotations",
	"runtime.v1.ContainerStatus.annotations", "runtime.v1.ContainerAttributes.annotations", "runtime.v1.ImageSpec.annotations",
	"runtime.v1.UpdateContainerResourcesRequest.annotations",
	"runtime.v1.PullImageRequest.auth",
	"runtime.v1.ExecSyncRequest.cmd", "runtime.v1.ExecSyncResponse.stdout", "runtime.v1.ExecSyncResponse.stderr",
	"runtime.v1.ExecRequest.cmd", "runtime.v1.ExecResponse.url", "runtime.v1.AttachResponse.url", "runtime.v1.PortForwardResponse.url",
	"runtime.v1.PodSandboxStatusResponse.info", "runtime.v1.ContainerStatusResponse.info", "runtime.v1.ImageStatusResponse.info",
	"runtime.v1.StatusResponse.info",
	"runtime.v1.ContainerStatus.message", "runtime.v1.RuntimeCondition.message",
	"runtime.v1.PodSandboxConfig.dns_config", "runtime.v1.Mount.mount_options", "runtime.v1.LinuxPodSandboxConfig.sysctls",
	"runtime.v1.CheckpointPodRequest.options", "runtime.v1.RestorePodRequest.options", "runtime.v1.Metric.label_values",
	"runtime.v1.WindowsSandboxSecurityContext.", "runtime.v1.WindowsContainerSecurityContext.",

	"csi.v1.VolumeCapability.MountVolume.mount_flags",
	"csi.v1.ControllerPublishVolumeResponse.publish_context",
	"csi.v1.NodeStageVolumeRequest.publish_context", "csi.v1.NodePublishVolumeRequest.publish_context",
	"csi.v1.GetPluginInfoResponse.manifest",
	"csi.v1.CreateVolumeRequest.mutable_parameters", "csi.v1.ControllerModifyVolumeRequest.mutable_parameters",
	"csi.v1.ValidateVolumeCapabilitiesRequest.mutable_parameters", "csi.v1.ValidateVolumeCapabilitiesResponse.Confirmed.mutable_parameters",
	"csi.v1.ValidateVolumeCapabilitiesResponse.message", "csi.v1.VolumeHealth.VolumeHealthEntry.message",
	"csi.v1.NodeGetStorageHealthResponse.StorageBackendHealth.message",
	"csi.v1.ListVolumesRequest.starting_token", "csi.v1.ListVolumesResponse.next_token",
	"csi.v1.ListSnapshotsRequest.starting_token", "csi.v1.ListSnapshotsResponse.next_token",
	"csi.v1.ControllerListVolumeHealthRequest.starting_token", "csi.v1.ControllerListVolumeHealthResponse.next_token",
}

func TestSecretsAreNotListed(t *testing.T) {
	all := reachable()
	for _, name := range secrets {
		i := strings.LastIndexByte(name, '.')
		d := all[protoreflect.FullName(name[:i])]
		if d == nil || name[i+1:] != "" && d.Fields().ByName(protoreflect.Name(name[i+1:])) == nil {
			t.Errorf("%s does not exist: the list of secrets is out of date", name)
			continue
		}
		for fd := range shownFields(d) {
			if name[i+1:] == "" || name[i+1:] == string(fd.Name()) {
				t.Errorf("%s is secret and may be shown", fd.FullName())
			}
		}
	}
	marked := 0
	for _, d := range all {
		for i := range d.Fields().Len() {
			if fd := d.Fields().Get(i); secret(fd) {
				marked++
				if _, ok := shownFields(d)[fd]; ok {
					t.Errorf("%s is marked as secret and listed", fd.FullName())
				}
			}
		}
	}
	if marked != 22+4 { // csi_secret and debug_redact
		t.Errorf("the APIs mark %d fields as secret, want 26: were they found?", marked)
	}
}

// TestKeys: only topology shows keys that nobody has listed, and no map that
// drivers or users fill shows a key that is not Kubernetes' own.
func TestKeys(t *testing.T) {
	for _, d := range reachable() {
		for fd, keys := range shownFields(d) {
			switch {
			case keys == "*" && fd.FullName() != "csi.v1.Topology.segments":
				t.Errorf("%s shows any key", fd.FullName())
			case strings.Contains(keys, "serviceAccount"):
				t.Errorf("%s shows tokens", fd.FullName())
			}
			for _, key := range strings.Fields(keys) {
				ours := strings.HasPrefix(key, "io.kubernetes.") || strings.HasPrefix(key, "csi.storage.k8s.io/")
				if !ours && key != "*" && fd.Name() != "unified" {
					t.Errorf("%s shows %q", fd.FullName(), key)
				}
			}
		}
	}
}

// TestMistakes: what a maintainer may get wrong in a table is found, and the
// field stays hidden.
func TestMistakes(t *testing.T) {
	file := Lookup("runtime.v1.ImageService", "PullImage").Request.ParentFile()
	const request = "runtime.v1.PullImageRequest"
	for entry, problem := range map[string]string{
		request + " imge":       "no such field",
		request + " auth":       "runtime.v1.AuthConfig has no entry",
		request + " image[key]": "a map, and only a map",
		"runtime.v1.UpdateContainerResourcesRequest annotations": "a map, and only a map",
		"runtime.v1.AuthConfig password":                         "marks it as secret",
		"runtime.v1.PullImageRequets image":                      "no method's messages hold it",
		"runtime.v1.ImageService/PullImage request.img":          "has no field \"img\"",
		"runtime.v1.ImageService/PullImage request.image":        "is not a string",
		"runtime.v1.ImageService/PullImage image.image":          "neither request nor response",
		"runtime.v1.ImageService/ListImages response.images":     "is a list",
		"runtime.v1.ImageService/Pull request.image.image":       "no such method",
	} {
		name, rest, _ := strings.Cut(entry, " ")
		tables, abouts := table{}, about{}
		if strings.Contains(name, "/") {
			abouts[name] = sources{{factImage, rest}}
		} else {
			tables[protoreflect.FullName(name)] = []string{rest}
		}
		if name == "runtime.v1.AuthConfig" {
			tables[request] = []string{"auth"}
		}
		r := compile([]protoreflect.FileDescriptor{file}, []table{tables}, []about{abouts})
		if len(r.problems) != 1 || !strings.Contains(r.problems[0].Error(), problem) {
			t.Errorf("%s: problems %v, want one with %q", entry, r.problems, problem)
		}
		for d, m := range r.messages {
			if out, _ := m.render(marshal(t, filled(d)), true, 1<<16); bytes.Contains(out, []byte("canary")) {
				t.Errorf("%s: shows %s", entry, out)
			}
		}
	}
}

// TestFactsAreShown: what a call is about leaves the node with every record, so
// it is read only from fields that may be shown.
func TestFactsAreShown(t *testing.T) {
	for _, abouts := range []about{criAbout, csiAbout} {
		for name, from := range abouts {
			service, method, _ := strings.Cut(name, "/")
			m := Lookup(service, method)
			for _, s := range from {
				path, key, _ := strings.Cut(strings.TrimSuffix(s.path, "]"), "[")
				names := strings.Split(path, ".")
				d := m.Request
				if names[0] == "response" {
					d = m.Response
				}
				for _, n := range names[1:] {
					fd := d.Fields().ByName(protoreflect.Name(n))
					keys, ok := shownFields(d)[fd]
					if !ok || key != "" && fd.IsMap() && !slices.Contains(strings.Fields(keys), key) {
						t.Errorf("%s: %s is a fact and not shown", name, s.path)
					}
					d = fd.Message()
				}
			}
		}
	}
}
