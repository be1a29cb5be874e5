package schema

// pluginRegistration is how the kubelet learns of plugins of any kind, CSI
// drivers' among them (k8s.io/kubelet/pkg/apis/pluginregistration/v1).
func pluginRegistration() api {
	return api{
		name: "pluginregistration", module: "k8s.io/kubelet",
		services: []string{"pluginregistration.Registration"},
		shown: table{
			"pluginregistration.PluginInfo":         {"type", "name", "endpoint", "supported_versions"},
			"pluginregistration.RegistrationStatus": {"plugin_registered", "error" + freeText},
		},
		about: about{
			"pluginregistration.Registration/GetInfo": {{factServerName, "response.name"}, {factSubject, "response.name"}},
		},
	}
}
