package schema

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Facts are what a call says of the objects it is about. Empty where it says
// nothing; learning the rest from other calls is package identity's.
type Facts struct {
	PodNamespace, PodName, PodUID string
	SandboxID                     string
	ContainerID, ContainerName    string
	Image                         string
	VolumeID                      string
	VolumePath                    string // where a pod sees it: target_path and its likes
	StagingPath                   string
	PV, PVC                       string
	Driver                        string // a CSI driver's name, by its own word
	ServerName                    string // who answers, by its own word
	// Subject is what a call is about that is none of these: a device, a claim, a
	// key, a blob. Of several, the first.
	Subject string
}

// fact is one of Facts' fields.
type fact int

const (
	factPodNamespace fact = iota
	factPodName
	factPodUID
	factSandboxID
	factContainerID
	factContainerName
	factImage
	factVolumeID
	factVolumePath
	factStagingPath
	factPV
	factPVC
	factDriver
	factServerName
	factSubject
	factCount
)

func (f *Facts) at(which fact) *string {
	return [factCount]*string{
		factPodNamespace: &f.PodNamespace, factPodName: &f.PodName, factPodUID: &f.PodUID,
		factSandboxID: &f.SandboxID, factContainerID: &f.ContainerID, factContainerName: &f.ContainerName,
		factImage: &f.Image, factVolumeID: &f.VolumeID, factVolumePath: &f.VolumePath, factStagingPath: &f.StagingPath,
		factPV: &f.PV, factPVC: &f.PVC, factDriver: &f.Driver, factServerName: &f.ServerName,
		factSubject: &f.Subject,
	}[which]
}

// about says for each method, "service/method", where its facts are. A test
// holds that a fact is never read from a field that may not be shown.
type about map[string]sources

// sources are paths to facts. If several give the same fact, the one that comes
// last here and is there wins: put what the server says behind what was asked.
type sources []source

// source is one path: "request." or "response.", then field names, and of a map
// the key in brackets, "response.status.labels[io.kubernetes.pod.uid]". A path
// leads through a list for a Subject alone: else, a call is about one object.
type source struct {
	fact fact
	path string
}

func with(groups ...sources) sources { return slices.Concat(groups...) }

// maxFact is the longest string that is a fact, PATH_MAX: what is longer names
// nothing on a node, and facts are remembered.
const maxFact = 4096

// Facts reads the facts of a call from its first request and response message,
// or from prefixes of these, or nil.
func (m *Method) Facts(request, response []byte) Facts {
	var w walker
	w.walk(m.request, request)
	w.walk(m.response, response)
	return w.facts
}

// step is one field on the way to a fact: the paths of a message as a tree, so
// that its bytes are read once.
type step struct {
	number protowire.Number
	next   []step // into a message, or into a map by key
	key    string // of a step within a map: the key; number is 0
	leaf   bool
	first  bool // of several occurrences the first counts, and not the last
	fact   fact
	rank   int8 // of two sources of a fact the higher wins
}

type walker struct {
	facts Facts
	ranks [factCount]int8
}

// walk reads a message's fields along steps. A later occurrence wins over an
// earlier one, as everywhere in protobuf. A value that the prefix cut is no fact.
func (w *walker) walk(steps []step, b []byte) {
	if len(steps) == 0 {
		return
	}
	for c := (cursor{b: b}); c.next(); {
		for i := range steps {
			s := &steps[i]
			if s.number != c.number || c.wire != protowire.BytesType {
				continue
			}
			switch {
			case s.leaf && !c.cut:
				w.learn(s, c.bytes())
			case len(s.next) > 0 && s.next[0].key != "":
				w.walkMap(s.next, c.bytes(), c.cut)
			default:
				w.walk(s.next, c.bytes())
			}
		}
	}
}

// walkMap reads one entry of a map.
func (w *walker) walkMap(steps []step, b []byte, cut bool) {
	var key, value []byte
	for c := (cursor{b: b, whole: !cut}); c.next(); {
		switch {
		case !isText(&c) || c.cut:
		case c.number == 1:
			key = c.bytes()
		case c.number == 2:
			value = c.bytes()
		}
	}
	for i := range steps {
		if steps[i].key == string(key) {
			w.learn(&steps[i], value)
		}
	}
}

func isText(c *cursor) bool { return c.wire == protowire.BytesType }

// learn takes in a fact. It leaves with every record, so that a credential in it
// is taken out as of anything that is shown.
func (w *walker) learn(s *step, value []byte) {
	if len(value) == 0 || len(value) > maxFact || s.rank < w.ranks[s.fact] {
		return
	}
	to := w.facts.at(s.fact)
	if s.first && *to != "" && s.rank == w.ranks[s.fact] {
		return
	}
	w.ranks[s.fact] = s.rank
	if *to = string(value); !isPlain(value) {
		*to = Scrub(strings.ToValidUTF8(*to, replacement))
	}
}

// resolve turns sources into steps by the method's descriptors.
func (m *Method) resolve(from sources, method protoreflect.MethodDescriptor) error {
	for i, s := range from {
		side, path, _ := strings.Cut(s.path, ".")
		to, d := &m.request, method.Input()
		switch side {
		case "request":
		case "response":
			to, d = &m.response, method.Output()
		default:
			return fmt.Errorf("%q begins with neither request nor response", s.path)
		}
		if err := s.plant(to, d, path, i); err != nil {
			return fmt.Errorf("%q: %w", s.path, err)
		}
	}
	return nil
}

// plant adds a fact's path to a tree of steps over messages of type d.
func (s source) plant(to *[]step, d protoreflect.MessageDescriptor, path string, rank int) error {
	path, key, _ := strings.Cut(strings.TrimSuffix(path, "]"), "[")
	leaf := step{leaf: true, key: key, fact: s.fact, rank: int8(rank), first: s.fact == factSubject}
	return grow(to, d, strings.Split(path, "."), leaf)
}

// grow adds a path to a tree of steps over messages of type d, with leaf as its
// end; leaf has a key where the path ends in a map.
func grow(to *[]step, d protoreflect.MessageDescriptor, names []string, leaf step) error {
	if len(names) == 0 {
		return fmt.Errorf("names no field")
	}
	fd := d.Fields().ByName(protoreflect.Name(names[0]))
	last := len(names) == 1
	switch {
	case fd == nil:
		return fmt.Errorf("%s has no field %q", d.FullName(), names[0])
	case fd.IsList() && leaf.fact != factSubject:
		return fmt.Errorf("%s is a list", fd.FullName())
	case !last && (fd.IsMap() || fd.Message() == nil):
		return fmt.Errorf("%s is no message", fd.FullName())
	case !last:
		return grow(&child(to, fd.Number()).next, fd.Message(), names[1:], leaf)
	case fd.IsMap() != (leaf.key != ""):
		return fmt.Errorf("%s: a map, and only a map, needs a key", fd.FullName())
	case fd.IsMap() && fd.MapValue().Kind() == protoreflect.StringKind:
		to = &child(to, fd.Number()).next
	case fd.Kind() == protoreflect.StringKind, fd.Kind() == protoreflect.BytesKind && leaf.fact == factSubject:
		leaf.number = fd.Number()
	default:
		return fmt.Errorf("%s is not a string", fd.FullName())
	}
	*to = append(*to, leaf)
	return nil
}

// child finds or makes the step into a field.
func child(steps *[]step, n protowire.Number) *step {
	i := slices.IndexFunc(*steps, func(s step) bool { return s.number == n && !s.leaf })
	if i < 0 {
		i = len(*steps)
		*steps = append(*steps, step{number: n})
	}
	return &(*steps)[i]
}
