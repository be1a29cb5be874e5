package identity

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// volume is what is known of one besides its handle.
type volume struct {
	driver, pv, pvc string
	// pod is the UID of the pod that used it latest, and since when.
	pod  string
	used time.Time
}

// learnVolume takes in that a pod publishes or unpublishes a volume.
func (m *Map) learnVolume(r *call.Record) {
	v := r.Volume
	if v.ID == "" || r.Pod.UID == "" || !fits(v.ID, v.Driver, v.PV, v.PVC) {
		return
	}
	known, _ := m.volumes.get(v.ID)
	known.driver, known.pod, known.used = m.driver(r), strings.Clone(r.Pod.UID), r.Start
	state(&known.pv, strings.Clone(v.PV))
	state(&known.pvc, v.PVC)
	m.volumes.put(v.ID, known)
}

// fillVolume completes a call that has a volume's handle. What stages one is for
// the pod that then publishes it, and what unstages it is for the last that had it:
// neither names a pod.
func (m *Map) fillVolume(r *call.Record) {
	v, ok := m.volumes.get(r.Volume.ID)
	if !ok || r.Volume.Driver != "" && v.driver != "" && v.driver != r.Volume.Driver {
		return
	}
	fill(&r.Volume.PV, v.pv)
	fill(&r.Volume.PVC, v.pvc)
	if r.Method == "NodeStageVolume" && !v.used.Before(r.Start) || r.Method == "NodeUnstageVolume" {
		fill(&r.Pod.UID, v.pod)
	}
}

// Of each volume of a pod the kubelet keeps a file, which names its handle:
//
//	KUBELET/pods/POD_UID/volumes/kubernetes.io~csi/PV/vol_data.json
//
// Until Kubernetes 1.35 or so it is there before the volume is staged, since then
// only once it is published; and as long as the pod has it.
const (
	podsDir    = "pods"
	csiDir     = "volumes/kubernetes.io~csi"
	volumeData = "vol_data.json"
)

// maxVolumeFile bounds what is read of such a file, in bytes: they have 300.
const maxVolumeFile = 64 << 10

// volumeFile is what one says.
type volumeFile struct {
	Handle string `json:"volumeHandle"`
	Driver string `json:"driverName"`
	PV     string `json:"specVolID"`
	Life   string `json:"volumeLifecycleMode"`
}

// ReadVolumes learns from the files in a kubelet's directory which pod has which
// volume. One that several pods have is no pod's. It follows no link out of the
// directory. The error is of the directory or of a file; the others were read.
//
// Beside such a file is the volume itself, mounted: it is not even looked at, for
// its server may not answer, and nothing ends who waits for that. So directories are
// read for names alone: package os looks at each file of a directory in a Root.
func (m *Map) ReadVolumes(kubeletDir string) error {
	root, err := os.OpenRoot(kubeletDir)
	if err != nil {
		return err
	}
	defer root.Close()
	pods, err := namesIn(root, podsDir)
	if err != nil {
		return err
	}
	found := map[string]fromFile{}
	now := time.Now()
	var errs []error
	for _, pod := range pods {
		dir := path.Join(podsDir, pod, csiDir)
		volumes, err := namesIn(root, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it has none, or is gone meanwhile
			errs = append(errs, err)
		}
		for _, name := range volumes[:min(len(volumes), maxVolumes-len(found))] {
			f, written, err := readVolumeFile(root, path.Join(dir, name, volumeData))
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					errs = append(errs, err)
				}
				continue
			}
			v := fromFile{volume{driver: f.Driver, pv: f.PV, pod: pod, used: now}, written}
			if f.Life == "Ephemeral" {
				v.pv = "" // an inline volume has none
			}
			if other, ok := found[f.Handle]; ok && other.pod != v.pod {
				v.pod = ""
			}
			found[f.Handle] = v
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for handle, v := range found {
		m.learnFile(handle, v)
	}
	return errors.Join(errs...)
}

// fromFile is what a file says of a volume, and since when.
type fromFile struct {
	volume
	written time.Time
}

// learnFile takes in what files say. A pod that was heard of since then had the
// volume later: what cannot be tidied away keeps its file.
func (m *Map) learnFile(handle string, v fromFile) {
	if handle == "" || !fits(handle, v.driver, v.pv, v.pod) {
		return
	}
	known, ok := m.volumes.get(handle)
	if ok && known.driver != "" && known.driver != v.driver {
		return // two drivers' volumes of one handle: the one that is used
	}
	if v.pod == "" || known.pod != "" && known.pod != v.pod && v.written.Before(known.used) {
		v.pod, v.used = known.pod, known.used
	}
	v.pvc = known.pvc
	m.volumes.put(handle, v.volume)
}

// namesIn are the names in a directory, at most maxVolumes.
func namesIn(root *os.Root, dir string) ([]string, error) {
	d, err := root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(maxVolumes)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

func readVolumeFile(root *os.Root, name string) (f volumeFile, written time.Time, err error) {
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return f, written, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return f, written, errors.Join(err, &fs.PathError{Op: "read", Path: name, Err: errors.New("is no file")})
	}
	b, err := io.ReadAll(io.LimitReader(file, maxVolumeFile))
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return f, written, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return f, st.ModTime(), nil
}
