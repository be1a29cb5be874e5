package e2e

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestPodTrace holds that a pod's start and its stop are one trace each, CRI and
// CSI calls together, under a root that says how it went; and that the pod that
// was asked for is drawn at the end.
func TestPodTrace(t *testing.T) {
	c := NewCollector(t)
	out, err := tap(t, "demo", "--once", "--pod", "web-0", "--otlp-endpoint", c.Address, "--otlp-insecure")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"pod start prod/web-0":    {"NodePublishVolume", "NodePublishVolume", "NodePublishVolume", "RunPodSandbox", "PullImage", "CreateContainer", "StartContainer"},
		"pod stop batch/report-0": {"StopContainer", "StopPodSandbox", "RemoveContainer", "RemovePodSandbox"},
	} {
		roots := c.Roots()
		ids := slices.DeleteFunc(slices.Collect(maps.Keys(roots)), func(id string) bool { return roots[id].GetName() != name })
		if len(ids) != 1 {
			t.Errorf("%d roots named %q", len(ids), name)
			continue
		}
		root := roots[ids[0]]
		var had []string
		for _, s := range c.Spans() {
			if hex.EncodeToString(s.GetParentSpanId()) != ids[0] {
				continue
			}
			had = append(had, s.GetName()[strings.LastIndex(s.GetName(), "/")+1:])
			if string(s.GetTraceId()) != string(root.GetTraceId()) || s.GetStartTimeUnixNano() < root.GetStartTimeUnixNano() || s.GetEndTimeUnixNano() > root.GetEndTimeUnixNano() {
				t.Errorf("%s is not within its root", s.GetName())
			}
		}
		for _, m := range want {
			i := slices.Index(had, m)
			if i < 0 {
				t.Errorf("%s has no (further) %s", name, m)
				continue
			}
			had = slices.Delete(had, i, i+1)
		}
	}
	if drawn := out[strings.LastIndex(out, "\npod start prod/web-0")+1:]; !strings.Contains(drawn, "started after") || !strings.Contains(drawn, "INTERNAL: Output: mount.nfs: Connection refused") {
		t.Errorf("it is not drawn:\n%s", out)
	}
}
