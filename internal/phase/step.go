package phase

import (
	"strings"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// part is what a call can be to a pod.
type part int

const (
	neither part = iota // a probe, a status, a list
	starting
	stopping
)

// step is one of the methods that a pod's start or stop consists of.
type step struct {
	method string
	part   part
	name   string // of the step that its success completes
	csi    bool
	// opens: a phase may begin with it. A start may begin with any of its calls,
	// since a tap may come in the middle, but a pod comes back only with these; a
	// stop never begins with what the kubelet also does to tidy up a pod that runs.
	opens bool
	// final: no pod survives it, while a container that is stopped may be made anew.
	final bool
}

var steps = byMethod(
	step{method: "NodeStageVolume", part: starting, name: "volumes_staged", csi: true, opens: true},
	step{method: "NodePublishVolume", part: starting, name: "volumes_published", csi: true, opens: true},
	step{method: "RunPodSandbox", part: starting, name: "sandbox_ready", opens: true},
	step{method: "PullImage", part: starting, name: "images_pulled"},
	step{method: "CreateContainer", part: starting, name: "containers_created"},
	step{method: "StartContainer", part: starting, name: "containers_started"},

	step{method: "StopContainer", part: stopping, name: "containers_stopped", opens: true},
	step{method: "StopPodSandbox", part: stopping, name: "sandbox_stopped", opens: true, final: true},
	step{method: "NodeUnpublishVolume", part: stopping, name: "volumes_unpublished", csi: true, opens: true, final: true},
	step{method: "NodeUnstageVolume", part: stopping, name: "volumes_unstaged", csi: true},
	step{method: "RemoveContainer", part: stopping, name: "containers_removed"},
	step{method: "RemovePodSandbox", part: stopping, name: "sandbox_removed", final: true},
)

func byMethod(all ...step) map[string]*step {
	m := map[string]*step{}
	for _, s := range all {
		m[s.method] = &s
	}
	return m
}

var none = &step{}

// stepOf is what r is to its pod.
func stepOf(r *call.Record) *step { return stepFor(r.Service, r.Method) }

func stepFor(service, method string) *step {
	s := steps[method]
	switch {
	case s == nil:
		return none
	case s.csi && service == "csi.v1.Node",
		!s.csi && (service == "runtime.v1.RuntimeService" || service == "runtime.v1.ImageService"):
		return s
	}
	return none
}

// short is r as a phase keeps it.
func short(r *call.Record, s *step) call.PhaseCall {
	c := call.PhaseCall{
		Method: s.method, Subject: strings.Clone(cut(subject(r, s))), // it may be a piece of a long path
		Start: r.Start, Duration: r.Duration(),
		Code: r.Code, Failed: r.Failed(),
	}
	if c.Failed {
		c.Note = strings.Clone(cut(lastLine(r.Message)))
	}
	return c
}

func subject(r *call.Record, s *step) string {
	switch {
	case s.csi:
		return firstOf(r.Volume.PV, r.Volume.ID, r.Volume.Path)
	case s.method == "PullImage":
		return r.Image
	default:
		return containerName(r)
	}
}

// containerName is the container's name or, failing that, its id; empty of a
// call about a sandbox.
func containerName(r *call.Record) string { return firstOf(r.Container.Name, r.Container.ID) }

func firstOf(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// lastLine is where those who wrap messages put the cause.
func lastLine(s string) string {
	s = strings.TrimRight(s, "\r\n\t ")
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}

// cut bounds what is remembered of a text.
func cut(s string) string { return cutTo(s, maxText) }

func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
