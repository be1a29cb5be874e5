package lab

// The configuration of containerd, in the two versions that the lab runs.
//
// restrict_oom_score_adj decides everything: without CAP_SYS_RESOURCE every
// sandbox fails ("can't get final child's PID from pipe: EOF") unless it is
// set. The rest keeps containerd to the lab's directory: its own root, state
// and sockets, the network namespaces' mounts, runc's state.

const cniBin = "/usr/lib/cni"

const configV2 = `version = 2
root = "{{.Dir}}/root"
state = "{{.Dir}}/state"
[grpc]
  address = "{{.Socket}}"
[ttrpc]
  address = "{{.Socket}}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{{.Dir}}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{{.Pause}}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "` + cniBin + `"
  conf_dir = "{{.Dir}}/cni"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{{.Certs}}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "{{.Runc}}"
  Root = "{{.Dir}}/runc"
  SystemdCgroup = false
`

const configV3 = `version = 3
root = "{{.Dir}}/root"
state = "{{.Dir}}/state"
[grpc]
  address = "{{.Socket}}"
[ttrpc]
  address = "{{.Socket}}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{{.Dir}}/opt"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{{.Pause}}"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{{.Certs}}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["` + cniBin + `"]
  conf_dir = "{{.Dir}}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  runtime_path = "{{.Shim}}"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "{{.Runc}}"
  Root = "{{.Dir}}/runc"
  SystemdCgroup = false
`

// cniConf gives each pod an address on a veth pair; what it does to routes
// and iptables stays in the lab's network namespace.
const cniConf = `{
  "cniVersion": "0.4.0",
  "name": "NAME",
  "plugins": [
    {"type": "ptp", "ipMasq": false, "mtu": 1500,
     "ipam": {"type": "host-local", "subnet": "10.88.0.0/16", "dataDir": "DATA", "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true}
  ]
}
`
