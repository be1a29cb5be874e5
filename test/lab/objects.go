package lab

// The objects of an API server that pods on a node need, in the namespace "default".

const (
	podsPath   = "/api/v1/namespaces/default/pods"
	claimsPath = "/api/v1/namespaces/default/persistentvolumeclaims"
)

// Driver makes a CSI driver known, whose volumes are attached by nobody and may be
// written in a pod. podInfo: it is told of the pod with each volume that it publishes.
func (a *APIServer) Driver(name string, podInfo bool) {
	a.lab.t.Helper()
	a.create("/apis/storage.k8s.io/v1/csidrivers", object{
		"metadata": object{"name": name},
		"spec": object{
			"attachRequired": false, "podInfoOnMount": podInfo,
			"volumeLifecycleModes": []string{"Persistent", "Ephemeral"},
		},
	}, nil)
}

// Claim makes a claim and the volume that it is bound to, which is what controllers
// would do: that of a driver with this handle, and these attributes.
func (a *APIServer) Claim(name, driver, handle string, attributes map[string]string) {
	a.lab.t.Helper()
	const mode, class = "ReadWriteMany", "by-hand"
	pv := "pv-" + name
	var made struct{ Metadata struct{ UID string } }
	a.create(claimsPath, object{
		"metadata": object{"name": name},
		"spec": object{
			"accessModes": []string{mode}, "storageClassName": class, "volumeName": pv,
			"resources": object{"requests": object{"storage": "1Mi"}},
		},
	}, &made)
	a.create("/api/v1/persistentvolumes", object{
		"metadata": object{"name": pv},
		"spec": object{
			"accessModes": []string{mode}, "storageClassName": class, "capacity": object{"storage": "1Mi"},
			"claimRef": object{"namespace": "default", "name": name, "uid": made.Metadata.UID},
			"csi":      object{"driver": driver, "volumeHandle": handle, "volumeAttributes": attributes},
		},
	}, nil)
	a.patch("/api/v1/persistentvolumes/"+pv+"/status", object{"status": object{"phase": "Bound"}})
	a.patch(claimsPath+"/"+name+"/status", object{"status": object{"phase": "Bound"}})
}

// Create puts a pod on the node, and returns its UID.
func (a *APIServer) Create(p Pod) (uid string) {
	a.lab.t.Helper()
	o := p.object()
	o["spec"].(object)["nodeName"] = node
	var made struct{ Metadata struct{ UID string } }
	a.create(podsPath, o, &made)
	return made.Metadata.UID
}

// Delete asks for a pod's end.
func (a *APIServer) Delete(name string) {
	a.lab.t.Helper()
	a.delete(podsPath + "/" + name)
}

// PodState is what the API server knows of a pod, mostly by the kubelet's word.
type PodState struct {
	Metadata struct {
		Name, UID         string
		DeletionTimestamp *string
	}
	Status struct {
		Phase             string
		ContainerStatuses []struct{ Ready bool }
	}
}

// Runs: all of its containers do.
func (s PodState) Runs() bool {
	for _, c := range s.Status.ContainerStatuses {
		if !c.Ready {
			return false
		}
	}
	return s.Status.Phase == "Running"
}

// Pods are the pods that there are, by name.
func (a *APIServer) Pods() map[string]PodState {
	a.lab.t.Helper()
	var list struct{ Items []PodState }
	a.get(podsPath, &list)
	pods := map[string]PodState{}
	for _, p := range list.Items {
		pods[p.Metadata.Name] = p
	}
	return pods
}
