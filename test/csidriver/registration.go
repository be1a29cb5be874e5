package csidriver

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// Register does what node-driver-registrar does beside a driver: it serves the kubelet's registration API on a socket of its
// own at path, in plugins_registry. The kubelet finds it there, asks what the driver is called, and dials it at endpoint from
// then on, which need not be where the driver listens: something may stand between them.
func (d *Driver) Register(path, endpoint string) error {
	s := grpc.NewServer(grpc.UnaryInterceptor(d.log))
	registration.RegisterRegistrationServer(s, &registrar{Driver: d, endpoint: endpoint})
	if err := d.serve(s, path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.registered = append(d.registered, s)
	return nil
}

type registrar struct {
	registration.UnimplementedRegistrationServer
	*Driver
	endpoint string
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: r.Name, Endpoint: r.endpoint,
		SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus is where a kubelet says what it has against the driver. It tries again by itself.
func (r *registrar) NotifyRegistrationStatus(_ context.Context, st *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if st.GetPluginRegistered() {
		fmt.Fprintf(r.Log, "registered with the kubelet: %s at %s\n", r.Name, r.endpoint)
	} else {
		fmt.Fprintf(r.Log, "the kubelet refuses %s: %s\n", r.Name, st.GetError())
	}
	return &registration.RegistrationStatusResponse{}, nil
}
