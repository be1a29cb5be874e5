package schema

import "testing"

func TestScrubTakesTheSecretAndLeavesTheReason(t *testing.T) {
	for in, want := range map[string]string{
		"mount error(13): Permission denied; options: username=svc,password=hunter2,vers=3.0":                   "mount error(13): Permission denied; options: username=svc,password=‹scrubbed›,vers=3.0",
		`failed: {"user":"a","password":"hun\"ter2","code":7}`:                                                  `failed: {"user":"a","password":‹scrubbed›,"code":7}`,
		"pull https://user:hunter2@registry.example.com/v2/: 401 Unauthorized":                                  "pull https://‹scrubbed›@registry.example.com/v2/: 401 Unauthorized",
		"Authorization: Bearer abcdefgh12345678 was refused":                                                    "Authorization: Bearer ‹scrubbed› was refused",
		"token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln has expired":                                           "token ‹scrubbed› has expired",
		"bad key:\n-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\nat line 1": "bad key:\n‹scrubbed›\nat line 1",
		"aws: AWS_SECRET_ACCESS_KEY=abc/def+ghi is wrong":                                                       "aws: AWS_SECRET_ACCESS_KEY=‹scrubbed› is wrong",
		"login with password: hunter2 failed":                                                                   "login with password: ‹scrubbed› failed",
		"rbd: map failed: (secret=AQBc==) exit status 1":                                                        "rbd: map failed: (secret=‹scrubbed›) exit status 1",
		"key: AQD3aBcDeFgHiJkLmNoPqRsTuVwXyZ== is not in the keyring":                                           "key: ‹scrubbed› is not in the keyring",
		"map[password:hunter2 user:x]":                                                                          "map[password:‹scrubbed› user:x]",
		"{User:x Password:hunter2}: denied":                                                                     "{User:x Password:‹scrubbed›}: denied",
		"{Token:hunter2 Retry:3}":                                                                               "{Token:‹scrubbed› Retry:3}",
		`quoted "{\"password\":\"hunter2\"}" again`:                                                             `quoted "{\"password\":‹scrubbed›}" again`,
		`quoted "password=\"hunter2\""`:                                                                         `quoted "password=‹scrubbed›"`,
		"DB_PASS=hunter2 MYSQL_PWD=hunter2":                                                                     "DB_PASS=‹scrubbed› MYSQL_PWD=‹scrubbed›",
		"exec: mount.cifs --password hunter2 //a/b failed":                                                      "exec: mount.cifs --password ‹scrubbed› //a/b failed",
		"GET https://x.blob.example.com/v?sv=1&sig=hunter2%3D&se=2: 403":                                        "GET https://x.blob.example.com/v?sv=1&sig=‹scrubbed›&se=2: 403",
		"https://u:p@hunter2@host/path: refused":                                                                "https://‹scrubbed›@host/path: refused",
		`password: "correct hunter2" is wrong`:                                                                  `password: ‹scrubbed› is wrong`,
		"Authorization: token hunter2hunter2: 401":                                                              "Authorization: token ‹scrubbed› 401",
		`{"auths":{"r.example.com":{"auth":"aHVudGVyMg=="}}}`:                                                   `{"auths":{"r.example.com":{"auth":‹scrubbed›}}}`,
		"pass: hunter2, denied":                                                                                 "pass: ‹scrubbed›, denied",
		`secrets:{key:"password" value:"hunter2"}`:                                                              `secrets:{key:"password" value:‹scrubbed›}`,
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,01\n\nhunter2\n-----END RSA PRIVATE KEY----- bad": "‹scrubbed› bad",
		"cut off: -----BEGIN PRIVATE KEY-----\nhunter2":                                                "cut off: ‹scrubbed›",
		"image registry.example.com/team/token:v1 not found":                                           "image registry.example.com/team/token:v1 not found",
		"pass 3 of 4 failed: no space left on device":                                                  "pass 3 of 4 failed: no space left on device",
		`failed to fetch token: Get "https://auth.example.com/token?service=x": dial tcp: i/o timeout`: `failed to fetch token: Get "https://auth.example.com/token?service=x": dial tcp: i/o timeout`,
		`auth:{username:"u" auth:"aHVudGVyMg=="}`:                                                      `auth:{username:"u" auth:‹scrubbed›}`,
		"{Username:u Auth:aHVudGVyMg==}":                                                               "{Username:u Auth:‹scrubbed›}",
		`secrets:{key:"userKey" value:"AQDh"}`:                                                         `secrets:{key:"userKey" value:‹scrubbed›}`,
		`{"adminKey":"AQDh"} userKey=AQDh`:                                                             `{"adminKey":‹scrubbed›} userKey=‹scrubbed›`,
		"rbd map --key AQBhunter2 failed":                                                              "rbd map --key ‹scrubbed› failed",
		"DB_PASSWORD: hunter2, userPassword: hunter2":                                                  "DB_PASSWORD: ‹scrubbed›, userPassword: ‹scrubbed›",
		"client_secret: hunter2":                                                                       "client_secret: ‹scrubbed›",
		`exec ["mount" "--password" "hunter2" "x"]`:                                                    `exec ["mount" "--password" "‹scrubbed›" "x"]`,
		`exec ["--password","hunter2"]`:                                                                `exec ["--password","‹scrubbed›"]`,
		"iscsiadm -n node.session.auth.password -v hunter2: 6":                                         "iscsiadm -n node.session.auth.password -v ‹scrubbed›: 6",
		"basic authentication required":                                                                "basic authentication required",
		"bearer authentication required":                                                               "bearer authentication required",
		"failed to negotiate compression with the server":                                              "failed to negotiate compression with the server",
		"failed to get token: connection refused":                                                      "failed to get token: connection refused",
		"mount.nfs: Connection refused for nfs.example.com:/exports/web":                               "mount.nfs: Connection refused for nfs.example.com:/exports/web",
		`MountVolume.SetUp failed: secret "db-credentials" not found`:                                  `MountVolume.SetUp failed: secret "db-credentials" not found`,
		"image sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a not found, manifest unknown": "image sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a not found, manifest unknown",
		"CreateVolume: storageclass parameter csi.storage.k8s.io/provisioner-secret-name is empty":                  "CreateVolume: storageclass parameter csi.storage.k8s.io/provisioner-secret-name is empty",
	} {
		if got := Scrub(in); got != want {
			t.Errorf("%s\n  became   %s\n  expected %s", in, got, want)
		}
	}
}
