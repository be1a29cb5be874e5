package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// The paths that the kubelet hands to a CSI driver name the pod and the volume.
// Its root directory may be anything, so a path is read from these markers on:
//
//	…/pods/POD_UID/volumes/kubernetes.io~csi/PV/mount
//	…/plugins/kubernetes.io/csi/volumeDevices/publish/PV/POD_UID
//	…/plugins/kubernetes.io/csi/volumeDevices/staging/PV
//
// The staging path of a filesystem volume names neither.
const (
	podDir       = "/pods/"
	volumeDir    = "/volumes/kubernetes.io~csi/"
	blockPublish = "/plugins/kubernetes.io/csi/volumeDevices/publish/"
	blockStaging = "/plugins/kubernetes.io/csi/volumeDevices/staging/"
)

// named is what a path names.
type named struct{ pod, pv string }

// fromPath reads the pod UID and the PV out of a call's paths.
func fromPath(f schema.Facts) named {
	n, ok := parseTarget(f.VolumePath)
	if !ok {
		_, rest, _ := cutLast(f.StagingPath, blockStaging)
		n.pv, _, _ = strings.Cut(rest, "/")
	}
	if strings.HasPrefix(f.VolumeID, "csi-") && f.VolumeID == inlineHandle(n) {
		n.pv = "" // an inline volume has no PV; its directory bears its name in the pod
	}
	return n
}

func parseTarget(path string) (n named, ok bool) {
	if _, rest, ok := cutLast(path, blockPublish); ok {
		n.pv, rest, _ = strings.Cut(rest, "/")
		n.pod, _, _ = strings.Cut(rest, "/")
		return n, true
	}
	before, rest, ok := cutLast(path, volumeDir)
	if !ok {
		return named{}, false
	}
	_, n.pod, ok = cutLast(before, podDir)
	if !ok || strings.Contains(n.pod, "/") {
		return named{}, false
	}
	n.pv, _, _ = strings.Cut(rest, "/")
	return n, true
}

// inlineHandle is the volume id that the kubelet makes up for a volume that is
// written in the pod itself: what tells such a volume from a PV's.
func inlineHandle(n named) string {
	sum := sha256.Sum256([]byte(n.pod + n.pv))
	return "csi-" + hex.EncodeToString(sum[:])
}

// driverOf reads a CSI driver's name out of its socket's path,
// …/plugins/DRIVER/csi.sock. By convention only: what the driver itself says
// comes first.
func driverOf(socket string) string {
	dir, ok := strings.CutSuffix(socket, "/csi.sock")
	if !ok {
		return ""
	}
	_, driver, _ := cutLast(dir, "/plugins/")
	if strings.Contains(driver, "/") {
		return ""
	}
	return driver
}

// cutLast is strings.Cut around the last instance: a root directory may look
// like what it holds.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
