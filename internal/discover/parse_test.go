package discover

import "testing"

func TestParseListener(t *testing.T) {
	for _, test := range []struct {
		line, path string
		ino        uint32
	}{
		{"ffff8881: 00000002 00000000 00010000 0001 01 21456 /run/containerd/containerd.sock\n", "/run/containerd/containerd.sock", 21456},
		{"ffff8881: 00000002 00000000 00010000 0001 01 7 /a dir/with  blanks\n", "/a dir/with  blanks", 7},
		{"ffff8881: 00000003 00000000 00000000 0001 03 21457 /run/containerd/containerd.sock\n", "", 0}, // accepted
		{"ffff8881: 00000002 00000000 00010000 0001 01 21458 @/abstract\n", "", 0},
		{"ffff8881: 00000002 00000000 00010000 0001 01 21459 csi.sock\n", "", 0},
		{"ffff8881: 00000002 00000000 00010000 0001 01 21460\n", "", 0},
		{"Num       RefCount Protocol Flags    Type St Inode Path\n", "", 0},
		{"\n", "", 0},
	} {
		ino, path, ok := parseListener(test.line)
		if ino != test.ino || path != test.path || ok != (test.path != "") {
			t.Errorf("%q: %d %q %v", test.line, ino, path, ok)
		}
	}
}

func TestParseMounts(t *testing.T) {
	m := &mounts{devices: map[uint64]uint32{}, points: map[string]bool{}}
	m.add("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n")
	m.add(`68 27 0:4100 / /var/lib/with\040blank\134 rw - tmpfs tmpfs rw` + "\n")
	m.add("cut short\n")
	m.add("\n")
	if len(m.devices) != 2 || m.devices[27] != 254<<20 || m.devices[68] != 4100 {
		t.Errorf("devices %v", m.devices)
	}
	if len(m.points) != 2 || !m.points["/"] || !m.points[`/var/lib/with blank\`] {
		t.Errorf("mount points %v", m.points)
	}
}

func TestTtrpc(t *testing.T) {
	for path, want := range map[string]bool{
		"/run/containerd/containerd.sock":       false,
		"/run/containerd/containerd.sock.ttrpc": true,
		"/run/nri/nri.sock":                     true,
		"/run/containerd/s/0123abcd":            true,
		"/run/k3s/containerd/s/0123abcd":        true,
		"/var/lib/kubelet/plugins/s/csi.sock":   false,
	} {
		if ttrpc(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}
