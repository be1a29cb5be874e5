package schema

import "google.golang.org/protobuf/reflect/protoreflect"

// kms is k8s.io/kms/apis/v2: the API server has a plugin encrypt the keys that
// encrypt what it stores. What passes are keys, so that nothing of it is ever
// shown: neither plaintext nor ciphertext, nor a plugin's annotations.
func kms() api {
	return api{
		name: "kms", module: "k8s.io/kms",
		services: []string{"v2.KeyManagementService"},
		shown: table{
			"v2.StatusResponse":  {"version", "healthz" + freeText, "key_id"},
			"v2.EncryptRequest":  {"uid"},
			"v2.EncryptResponse": {"key_id"},
			"v2.DecryptRequest":  {"uid", "key_id"},
		},
		never: []protoreflect.FullName{
			"v2.EncryptRequest.plaintext", "v2.EncryptResponse.ciphertext", "v2.EncryptResponse.annotations",
			"v2.DecryptRequest.ciphertext", "v2.DecryptRequest.annotations", "v2.DecryptResponse.plaintext",
		},
		about: about{
			"v2.KeyManagementService/Status":  {{factSubject, "response.key_id"}},
			"v2.KeyManagementService/Encrypt": {{factSubject, "response.key_id"}},
			"v2.KeyManagementService/Decrypt": {{factSubject, "request.key_id"}},
		},
	}
}
