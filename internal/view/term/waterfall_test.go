package term

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func did(start, took float64, method, subject string) call.PhaseCall {
	seconds := func(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
	return call.PhaseCall{Method: method, Subject: subject, Start: noon.Add(seconds(start)), Duration: seconds(took), Code: "OK"}
}

func failed(c call.PhaseCall, code, note string) call.PhaseCall {
	c.Code, c.Note, c.Failed = code, note, true
	return c
}

// phases are a start that took its time, one that gave up, and a stop.
func phases() []*call.Phase {
	const refused = "Output: mount.nfs: Connection refused for 10.0.0.9:/export/data on /var/lib/kubelet/pods/6f0c1c7e-8a1d-4a60-9d0e-3d1a9c1f5b11/volumes/kubernetes.io~csi/pv-data/mount"
	web := call.Pod{Namespace: "shop", Name: "web-7d9f8b6c5-x2x9z"}
	end := func(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }
	return []*call.Phase{
		{Kind: call.PodStop, Pod: web, Outcome: call.Stopped, Begin: end(400), End: end(431.2), Count: 80, Calls: []call.PhaseCall{
			did(400, 30, "StopContainer", "nginx"), did(430, 0.4, "StopPodSandbox", ""), did(430.5, 0.5, "NodeUnpublishVolume", "pvc-1f9c2d3e-0c55-4d0b-9b0e-7d8b6a9c1f00"),
			did(431.1, 0.1, "NodeUnstageVolume", "pvc-1f9c2d3e-0c55-4d0b-9b0e-7d8b6a9c1f00"),
		}},
		{Kind: call.PodStart, Pod: web, Outcome: call.Started, Begin: noon, End: end(47.2), Count: 12, Failures: 2, Calls: []call.PhaseCall{
			failed(did(0, 15.2, "NodeStageVolume", "pvc-1f9c2d3e-0c55-4d0b-9b0e-7d8b6a9c1f00"), "INTERNAL", refused),
			failed(did(15.7, 14.8, "NodeStageVolume", "pvc-1f9c2d3e-0c55-4d0b-9b0e-7d8b6a9c1f00"), "INTERNAL", refused),
			did(31.5, 0.9, "NodeStageVolume", "pvc-1f9c2d3e-0c55-4d0b-9b0e-7d8b6a9c1f00"),
			did(32.5, 0.012, "NodePublishVolume", "pvc-1f9c2d3e-0c55-4d0b-9b0e-7d8b6a9c1f00"),
			did(33, 0.61, "RunPodSandbox", ""),
			did(33.7, 12.3, "PullImage", "docker.io/library/nginx:1.27"),
			did(46.1, 0.08, "CreateContainer", "nginx"), did(46.2, 0.12, "StartContainer", "nginx"),
			did(46.4, 0.4, "PullImage", "registry.example.com/team/platform/log-shipper@sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a"),
			did(46.9, 0.08, "CreateContainer", "log-shipper"), did(47, 0.2, "StartContainer", "log-shipper"),
			did(47.2, 0.0002, "NodePublishVolume", "pv-late"),
		}},
		{Kind: call.PodStart, Pod: call.Pod{UID: "6f0c1c7e-8a1d"}, Outcome: call.GaveUp, Begin: end(100), End: end(222), Count: 2, Failures: 2, Calls: []call.PhaseCall{
			failed(did(100, 4, "RunPodSandbox", ""), "", "the server closed the connection"),
			failed(did(110, 4, "CreateContainer", "商店-カート-\x1b[2J"), "UNKNOWN", ""),
		}},
	}
}

func drawPhases(o Options, all ...*call.Phase) string {
	var b bytes.Buffer
	NewText(&b, o).Phases(all)
	return b.String()
}

func TestWaterfallGolden(t *testing.T) {
	for _, c := range []struct {
		file string
		Options
	}{
		{"waterfall-80.txt", Options{Width: 80}},
		{"waterfall-80-color.txt", Options{Width: 80, Color: true}},
		{"waterfall-120.txt", Options{Width: 120}},
		{"waterfall-ascii.txt", Options{ASCII: true}},
	} {
		t.Run(c.file, func(t *testing.T) {
			got := drawPhases(c.Options, phases()...)
			file := "testdata/" + c.file
			if flag.Lookup("update").Value.String() == "true" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(file); err != nil || got != string(want) {
				t.Errorf("%v, got:\n%s\nwant:\n%s", err, got, want)
			}
		})
	}
}

// At every width no line but a message is wider than the terminal, and bars
// begin at one place and stay within it.
func TestWaterfallFits(t *testing.T) {
	for width := 60; width <= 200; width++ {
		for _, ascii := range []bool{false, true} {
			for line := range strings.Lines(drawPhases(Options{Width: width, ASCII: ascii}, phases()...)) {
				line = strings.TrimSuffix(line, "\n")
				if !strings.HasPrefix(line, "      ") && displayWidth(line) > width && strings.HasPrefix(line, "  ") {
					t.Errorf("width %d: %s", width, line)
				}
				if ascii && strings.ContainsAny(line, "█░×µ…") {
					t.Errorf("not plain: %s", line)
				}
			}
		}
	}
}

// Whatever is in a phase, it drives no terminal, and nothing is drawn out of
// place.
func FuzzWaterfall(f *testing.F) {
	f.Add("NodeStageVolume", "pv\x1b[2J", "a\nb", int64(1e9), int64(2e9), int64(5e9), 80)
	f.Add("", "e\u0301注", "\xff", int64(-1e9), int64(-1), int64(0), 1)
	f.Fuzz(func(t *testing.T, method, subject, note string, start, took, end int64, width int) {
		c := call.PhaseCall{Method: method, Subject: subject, Start: noon.Add(time.Duration(start)), Duration: time.Duration(took)}
		p := &call.Phase{Pod: call.Pod{Name: subject, Namespace: note}, Begin: noon, End: noon.Add(time.Duration(end)), Count: 9,
			Calls: []call.PhaseCall{c, failed(c, method, note), did(1, 1, "StartContainer", subject)}}
		got := drawPhases(Options{Width: min(width, 300)}, p)
		if !utf8.ValidString(got) || strings.ContainsFunc(strings.ReplaceAll(got, "\n", ""), hidden) {
			t.Errorf("%q is not printable", got)
		}
		if n := strings.Count(got, "\n"); n > 6 {
			t.Errorf("%d lines:\n%s", n, got)
		}
	})
}
