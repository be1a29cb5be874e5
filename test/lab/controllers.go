package lab

// Controllers starts what has a DaemonSet's or a Deployment's pods come to the node, and
// go with it and with their namespace: a scheduler, and these controllers alone. A new
// node is tainted, and has a DaemonSet's pods only, until its own controller has seen it
// ready. Nobody leads a service's address to its pods, or knows its name.
func (a *APIServer) Controllers() {
	l := a.lab
	l.t.Helper()
	common := []string{"--kubeconfig", a.Kubeconfig, "--leader-elect=false", "--secure-port=0"}
	l.Start("scheduler", nil, append(kube(l.t, "kube-scheduler"), common...)...)
	l.Start("controllers", nil, append(append(kube(l.t, "kube-controller-manager"), common...),
		"--controllers=daemonset-controller,deployment-controller,replicaset-controller,node-lifecycle-controller,namespace-controller,garbage-collector-controller")...)
}

// Kubectl is a user's command, which is to succeed; it returns what that printed.
func (a *APIServer) Kubectl(args ...string) string {
	l := a.lab
	l.t.Helper()
	out, err := l.Run(append(append(kube(l.t, "kubectl"), "--kubeconfig", a.Kubeconfig, "--cache-dir", l.Path("kubectl")), args...)...)
	if err != nil {
		l.t.Fatalf("lab: %v", err)
	}
	return out
}
