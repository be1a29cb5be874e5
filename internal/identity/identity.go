// Package identity knows which pod a container, a sandbox or a volume belongs
// to: it learns it from the calls that pass, and fills it into the records of
// calls that carry an id only. It asks nobody, so that a tap needs no rights in
// the cluster and works while the API server is away.
package identity

import (
	"cmp"
	"strings"
	"sync"

	"github.com/grpc-tap/grpc-tap/internal/call"
	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// How much a Map remembers. A node has a few hundred pods at most; the rest is
// room for what has ended but is still asked for. The entry that was of no use
// for the longest time goes first.
const (
	maxSandboxes  = 4096
	maxContainers = 8192
	maxPods       = 4096
	maxServers    = 256
	maxVolumes    = 4096
	// maxName bounds each string that is remembered: ids have 64 bytes, names
	// at most 253, images a little more. What is longer is told, not kept. So a
	// Map holds 64 MB if all of it is made up, and on a node of 500 pods 3 MB.
	maxName = 512
)

// Map is what was learned so far, on all sockets of a node: what the runtime's
// teaches, the drivers' use. Records of one socket are to be completed in the
// order in which their calls ended.
type Map struct {
	mu         sync.Mutex
	lists      int                // objects that were listed
	sandboxes  *recent[call.Pod]  // by sandbox id
	containers *recent[container] // by container id
	pods       *recent[call.Pod]  // by pod UID; a UID is never given to another pod
	servers    *recent[server]    // by socket
	volumes    *recent[volume]    // by handle
}

type container struct {
	name, image, sandboxID string
	pod                    call.Pod
	listed                 bool // with its state: a status and statistics leave something to learn
}

type server struct {
	name, driver string
	service      string // by which it said so
}

// New makes an empty Map.
func New() *Map {
	return &Map{
		sandboxes:  newRecent[call.Pod](maxSandboxes),
		containers: newRecent[container](maxContainers),
		pods:       newRecent[call.Pod](maxPods),
		servers:    newRecent[server](maxServers),
		volumes:    newRecent[volume](maxVolumes),
	}
}

// Complete fills the pod, container, sandbox, image, volume and server of a
// record, which may be of a call that still runs: first from the call's own facts,
// then, where these are silent, from what was learned. It is learned from before:
// what the caller calls its own pod, and of a call that succeeded what it made.
// What it removed is to be forgotten first, from then on. What the record says already
// is kept where neither says anything.
func (m *Map) Complete(r *call.Record, f schema.Facts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ok := r.State == call.Done && r.Code == "OK"
	f.ContainerID, f.SandboxID = m.containers.whole(f.ContainerID), m.sandboxes.whole(f.SandboxID)
	own := fromPath(f)
	if isCSI(r) && f.PodUID != own.pod {
		// The path is the kubelet's word. The context may be the word of who wrote the
		// volume into his pod: the driver has to ask the kubelet for its own.
		f.PodNamespace, f.PodName, f.PodUID = "", "", ""
	}
	state(&r.Pod.Namespace, f.PodNamespace)
	state(&r.Pod.Name, f.PodName)
	state(&r.Pod.UID, f.PodUID, own.pod)
	state(&r.Container.ID, f.ContainerID)
	state(&r.Container.Name, f.ContainerName)
	state(&r.SandboxID, f.SandboxID)
	state(&r.Image, f.Image)
	state(&r.Volume.ID, f.VolumeID)
	state(&r.Volume.PV, f.PV, own.pv)
	state(&r.Volume.PVC, f.PVC)
	state(&r.Volume.Path, f.VolumePath, f.StagingPath)
	state(&r.Volume.Driver, f.Driver)
	state(&r.Server.Name, f.ServerName)
	state(&r.Subject, f.Subject)
	m.learnNames(r)
	if ok {
		m.learn(r, f)
	}
	m.fill(r)
	if ok {
		m.retire(r, f)
	}
}

// Fill completes a record by what was learned since Complete.
func (m *Map) Fill(r *call.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Container.ID, r.SandboxID = m.containers.whole(r.Container.ID), m.sandboxes.whole(r.SandboxID)
	m.fill(r)
}

// Learn takes in what a response tells of an object that its call is not about.
// asked are the facts of the request: what it was narrowed to, the entry belongs
// to. It says whose the object is, and whether that is news.
func (m *Map) Learn(e *schema.Listed, asked schema.Facts) (f schema.Facts, news bool) {
	id, container := e.ID()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists++
	if len(id) == 0 || m.knows(id, container, e.HasState()) {
		return f, false
	}
	f = e.Facts()
	fill(&f.SandboxID, asked.SandboxID)
	if f.PodUID == "" && f.PodName == "" {
		f.PodNamespace, f.PodName, f.PodUID = asked.PodNamespace, asked.PodName, asked.PodUID
	}
	pod := call.Pod{Namespace: f.PodNamespace, Name: f.PodName, UID: f.PodUID}
	if !fits(pod.Namespace, pod.Name, pod.UID) {
		return f, false
	}
	m.learnPod(pod)
	m.belongs(f, pod)
	if c, ok := m.containers.get(f.ContainerID); ok && e.HasState() {
		c.listed = true
		m.containers.put(f.ContainerID, c)
	}
	return f, true
}

// knows: of an object that is listed again and again nothing more is to be learned.
func (m *Map) knows(id []byte, container, state bool) bool {
	if !container {
		_, ok := m.sandboxes.getBytes(id)
		return ok
	}
	c, ok := m.containers.getBytes(id)
	if state { // events have no sandbox
		return ok && c.listed && c.sandboxID != ""
	}
	return ok && (c.pod.Name != "" || c.sandboxID != "")
}

// Lists counts the objects that were listed so far.
func (m *Map) Lists() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lists
}

// state sets a field to the first of the values that says something.
func state(field *string, values ...string) {
	for _, v := range values {
		if v != "" {
			*field = v
			return
		}
	}
}

// fill sets a field that is still empty.
func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// vouches are the methods whose success proves that the ids and the pod that
// they name belong together. A list with a filter proves nothing: it succeeds
// when nothing matches.
var vouches = map[string]bool{
	"RunPodSandbox": true, "RestorePod": true, "PodSandboxStatus": true, "PodSandboxStats": true,
	"CreateContainer": true, "ContainerStatus": true, "ContainerStats": true,
	"NodePublishVolume": true,
}

// learn takes in what a call that succeeded has proved.
func (m *Map) learn(r *call.Record, f schema.Facts) {
	if f.ServerName != "" && fits(r.Socket, f.ServerName, f.Driver) {
		m.servers.put(r.Socket, server{f.ServerName, f.Driver, r.Service})
	}
	if !vouches[r.Method] || !fits(r.Pod.Namespace, r.Pod.Name, r.Pod.UID) {
		return
	}
	m.learnPod(r.Pod)
	m.belongs(f, r.Pod)
}

// learnNames takes in what a caller says of its own pod and volume, which needs no
// success: so they are known while the call still runs.
func (m *Map) learnNames(r *call.Record) {
	if !names[r.Method] || !fits(r.Pod.Namespace, r.Pod.Name, r.Pod.UID) {
		return
	}
	m.learnPod(r.Pod)
	if isCSI(r) {
		m.learnVolume(r)
	}
}

// names are the methods whose request names a pod, whole or by its UID.
var names = map[string]bool{
	"RunPodSandbox": true, "RestorePod": true, "CreateContainer": true, "PullImage": true,
	"NodePublishVolume": true, "NodeUnpublishVolume": true,
}

func (m *Map) learnPod(pod call.Pod) {
	if pod.UID == "" || pod.Name == "" || pod.Namespace == "" {
		return
	}
	if _, known := m.pods.get(pod.UID); !known {
		pod.UID = strings.Clone(pod.UID) // it may be a piece of a long path
		m.pods.put(pod.UID, pod)
	}
}

// belongs notes which pod a sandbox is of, and which pod and sandbox a container.
func (m *Map) belongs(f schema.Facts, pod call.Pod) {
	if known, ok := m.pods.get(pod.UID); ok {
		pod = known // the same strings for all that is the pod's
	}
	if f.SandboxID != "" && pod.Name != "" && fits(f.SandboxID) {
		m.sandboxes.put(f.SandboxID, pod)
	}
	if f.ContainerID != "" && fits(f.ContainerID, f.ContainerName, f.Image, f.SandboxID) {
		c, _ := m.containers.get(f.ContainerID)
		state(&c.name, f.ContainerName)
		state(&c.image, f.Image, c.image)
		state(&c.sandboxID, f.SandboxID)
		if pod.Name != "" {
			c.pod = pod
		}
		m.containers.put(f.ContainerID, c)
	}
}

func isCSI(r *call.Record) bool { return strings.HasPrefix(r.Service, "csi.") }

// fill completes a record from what was learned, from the particular to the
// general: the container gives the sandbox, the sandbox the pod.
func (m *Map) fill(r *call.Record) {
	if isCSI(r) {
		r.Volume.Driver = m.driver(r)
		m.fillVolume(r)
	}
	if c, ok := m.containers.get(r.Container.ID); ok {
		fill(&r.Container.Name, c.name)
		fill(&r.Image, c.image)
		fill(&r.SandboxID, c.sandboxID)
		fillPod(&r.Pod, c.pod)
	} else if _, ok := m.sandboxes.get(r.Container.ID); ok { // to containerd's own API a sandbox is a container
		fill(&r.SandboxID, r.Container.ID)
	}
	if pod, ok := m.sandboxes.get(r.SandboxID); ok {
		fillPod(&r.Pod, pod)
	}
	if pod, ok := m.pods.get(r.Pod.UID); ok {
		fillPod(&r.Pod, pod)
	}
	s, _ := m.servers.get(r.Socket)
	state(&r.Server.Name, s.name)
}

// Named is the service by which the server at a socket has said its name; empty: it
// has not.
func (m *Map) Named(socket string) (service string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, _ := m.servers.get(socket)
	return s.service
}

// driver is that of a CSI call: by its own word or, failing that, by its path.
func (m *Map) driver(r *call.Record) string {
	s, _ := m.servers.get(r.Socket)
	return cmp.Or(r.Volume.Driver, s.driver, driverOf(r.Socket))
}

// fillPod completes a pod by another, unless they are different pods.
func fillPod(pod *call.Pod, by call.Pod) {
	for _, pair := range [][2]string{{pod.UID, by.UID}, {pod.Name, by.Name}, {pod.Namespace, by.Namespace}} {
		if pair[0] != "" && pair[1] != "" && pair[0] != pair[1] {
			return
		}
	}
	fill(&pod.Namespace, by.Namespace)
	fill(&pod.Name, by.Name)
	fill(&pod.UID, by.UID)
}

// retire has what a call that succeeded has removed forgotten first. Not at once: the
// kubelet and its cAdvisor go on to ask for it. The pod stays: its volumes are
// unpublished after its sandbox is gone.
func (m *Map) retire(r *call.Record, f schema.Facts) {
	switch r.Method {
	case "RemoveContainer":
		m.containers.retire(f.ContainerID)
	case "RemovePodSandbox":
		m.sandboxes.retire(f.SandboxID)
	}
}

// fits: none of the strings is too long to be remembered.
func fits(all ...string) bool {
	for _, s := range all {
		if len(s) > maxName {
			return false
		}
	}
	return true
}
