package proxy

import (
	"path/filepath"
	"slices"
	"strings"
)

// kept are the executables of clients that are never sent off, for they may exit
// when their connection is lost, after a clean GOAWAY too: CSI sidecars, by
// csi-lib-utils' ExitOnConnectionLoss. Most have csi in their names (provisioner,
// attacher, resizer, snapshotter, node-driver-registrar, health monitor, snapshot
// metadata, csi-addons); these have not.
var kept = []string{
	"driver-registrar",      // csi-node-driver-registrar's first name
	"node-driver-registrar", // its second
	"livenessprobe",
	"volume-modifier-for-k8s",
}

// Keeps says whether a client with this executable is left alone. One that cannot
// be told ("") is.
func Keeps(exe string) bool {
	name, _ := strings.CutSuffix(filepath.Base(exe), " (deleted)") // its file was replaced
	return exe == "" || strings.Contains(name, "csi") || slices.Contains(kept, name)
}
