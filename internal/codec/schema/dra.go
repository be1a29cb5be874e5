package schema

import "google.golang.org/protobuf/reflect/protoreflect"

// dra is dynamic resource allocation v1 (k8s.io/kubelet/pkg/apis/dra/v1): the
// kubelet has a driver prepare the devices of a pod's claims.
func dra() api { return draOf("dra", "k8s.io.kubelet.pkg.apis.dra.v1.", "share_id") }

// draBeta is the same as v1beta1, which drivers serve beside it.
func draBeta() api { return draOf("dra-v1beta1", "k8s.io.kubelet.pkg.apis.dra.v1beta1.") }

func draOf(name string, pkg protoreflect.FullName, ofDevice ...string) api {
	service := string(pkg) + "DRAPlugin"
	return api{
		name: name, module: "k8s.io/kubelet",
		services: []string{service},
		shown: table{
			pkg + "NodePrepareResourcesRequest":    {"claims"},
			pkg + "NodePrepareResourcesResponse":   {"claims" + anyKey}, // by the claim's uid
			pkg + "NodePrepareResourceResponse":    {"error" + freeText, "devices"},
			pkg + "NodeUnprepareResourcesRequest":  {"claims"},
			pkg + "NodeUnprepareResourcesResponse": {"claims" + anyKey},
			pkg + "NodeUnprepareResourceResponse":  {"error" + freeText},
			pkg + "Claim":                          {"namespace", "name", "uid"},
			pkg + "Device":                         append([]string{"pool_name", "device_name", "request_names", "cdi_device_ids"}, ofDevice...),
		},
		about: about{
			service + "/NodePrepareResources":   {{factSubject, "request.claims.name"}},
			service + "/NodeUnprepareResources": {{factSubject, "request.claims.name"}},
		},
	}
}

// draHealth is k8s.io/kubelet/pkg/apis/dra-health/v1: a driver tells how its
// devices are.
func draHealth() api {
	return api{
		name: "dra-health", module: "k8s.io/kubelet",
		services: []string{"v1.DRAResourceHealth"},
		shown: table{
			"v1.NodeWatchResourcesResponse": {"devices"},
			"v1.DeviceHealth":               {"device", "health", "message" + freeText, "last_updated_time", "health_check_timeout_seconds"},
			"v1.DeviceIdentifier":           {"pool_name", "device_name"},
		},
		about: about{"v1.DRAResourceHealth/NodeWatchResources": {{factSubject, "response.devices.device.device_name"}}},
	}
}
