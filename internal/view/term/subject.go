package term

import (
	"strconv"
	"strings"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// about is what a call is about: the one thing that is always shown, a second
// one that is shown where there is room for all of it, and for a stream the
// number of messages each way.
type about struct {
	first, second, counts string
	image                 bool // first is an image
}

// subject picks from a record. The pod comes first, since that is what people
// look for; but a pull is about its image.
func subject(r *call.Record) about {
	a := about{counts: counts(r)}
	pod, image, volume := podName(r), imageName(r.Image), volumeName(r.Volume)
	switch {
	case image != "" && strings.HasSuffix(r.Service, ".ImageService"):
		a.first, a.second, a.image = image, pod, true
	case pod != "" && volume != "":
		a.first, a.second = pod, volume
	case pod != "":
		a.first, a.second = pod, image
	case r.Container.Name != "":
		a.first, a.second = r.Container.Name, shortID(r.Container.ID)
	case r.Container.ID != "":
		a.first = shortID(r.Container.ID)
	case r.SandboxID != "":
		a.first = shortID(r.SandboxID)
	case volume != "":
		a.first, a.second = volume, r.Volume.Driver
	case image != "":
		a.first, a.image = image, true
	case r.Subject != "":
		a.first = r.Subject
	default:
		a.first = r.Volume.Driver
	}
	a.first, a.second = printable(a.first), printable(a.second)
	return a
}

// podName is ns/pod[container], or as much of it as is known.
func podName(r *call.Record) string {
	name := r.Pod.Name
	if name == "" && r.Pod.UID != "" {
		name = "pod:" + shortID(r.Pod.UID)
	}
	if name == "" {
		return ""
	}
	if r.Pod.Namespace != "" {
		name = r.Pod.Namespace + "/" + name
	}
	if r.Container.Name != "" {
		return name + "[" + r.Container.Name + "]"
	}
	if r.Container.ID != "" {
		return name + "[" + shortID(r.Container.ID) + "]"
	}
	return name
}

// imageName leaves out what every image of Docker's has, and of a digest all
// but the twelve digits by which people know it: team/app@e4720093a3c1.
func imageName(ref string) string {
	name, hash, ok := strings.Cut(strings.TrimPrefix(ref, "docker.io/library/"), "sha256:")
	if !ok {
		return name
	}
	return name + hash[:min(len(hash), 12)]
}

func volumeName(v call.Volume) string {
	switch {
	case v.PV != "":
		return v.PV
	case v.ID != "":
		return v.ID
	default:
		return v.Path
	}
}

// shortID is as much of an id as crictl shows.
func shortID(id string) string {
	if len(id) > 13 {
		return id[:13]
	}
	return id
}

func counts(r *call.Record) string {
	if r.RequestMessages <= 1 && r.ResponseMessages <= 1 {
		return ""
	}
	return "→" + strconv.FormatInt(r.RequestMessages, 10) + " ←" + strconv.FormatInt(r.ResponseMessages, 10)
}

// fit puts it into width columns.
func (a about) fit(width int) string {
	room := width
	if a.counts != "" {
		room -= displayWidth(a.counts) + 1
	}
	s := a.first
	switch {
	case s == "" && a.counts != "":
		return cutEnd(a.counts, width)
	case s == "":
		return "-"
	case a.image:
		s = cutFront(s, room) // the tag and the last name tell images apart
	default:
		s = cutMiddle(s, room)
	}
	if a.second != "" && displayWidth(s)+1+displayWidth(a.second) <= room {
		s += " " + a.second
	}
	if a.counts != "" {
		s += " " + a.counts
	}
	return cutEnd(strings.TrimPrefix(s, " "), width)
}
