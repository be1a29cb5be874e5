package schema

import "testing"

func TestScrubTakesTheSecretAndLeavesTheReason(t *testing.T) {
	for in, want := range map[string]string{
		"mount error(13): Permission denied; options: username=svc,password=hunter2,vers=3.0":                       "mount error(13): Permission denied; options: username=svc,password=‹scrubbed›,vers=3.0",
		`failed: {"user":"a","password":"hun\"ter2","code":7}`:                                                      `failed: {"user":"a","password":‹scrubbed›,"code":7}`,
		"pull https://user:hunter2@registry.example.com/v2/: 401 Unauthorized":                                      "pull https://‹scrubbed›@registry.example.com/v2/: 401 Unauthorized",
		"Authorization: Bearer abcdefgh12345678 was refused":                                                        "Authorization: Bearer ‹scrubbed› was refused",
		"token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln has expired":                                               "token ‹scrubbed› has expired",
		"bad key:\n-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\nat line 1":     "bad key:\n‹scrubbed›\nat line 1",
		"aws: AWS_SECRET_ACCESS_KEY=abc/def+ghi is wrong":                                                           "aws: AWS_SECRET_ACCESS_KEY=‹scrubbed› is wrong",
		"login with password: hunter2 failed":                                                                       "login with password: ‹scrubbed› failed",
		"rbd: map failed: (secret=AQBc==) exit status 1":                                                            "rbd: map failed: (secret=‹scrubbed›) exit status 1",
		"key: AQD3aBcDeFgHiJkLmNoPqRsTuVwXyZ== is not in the keyring":                                               "key: ‹scrubbed› is not in the keyring",
		"failed to get token: connection refused":                                                                   "failed to get token: connection refused",
		"mount.nfs: Connection refused for nfs.example.com:/exports/web":                                            "mount.nfs: Connection refused for nfs.example.com:/exports/web",
		`MountVolume.SetUp failed: secret "db-credentials" not found`:                                               `MountVolume.SetUp failed: secret "db-credentials" not found`,
		"image sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a not found, manifest unknown": "image sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a not found, manifest unknown",
		"CreateVolume: storageclass parameter csi.storage.k8s.io/provisioner-secret-name is empty":                  "CreateVolume: storageclass parameter csi.storage.k8s.io/provisioner-secret-name is empty",
	} {
		if got := Scrub(in); got != want {
			t.Errorf("%s\n  became   %s\n  expected %s", in, got, want)
		}
	}
}
