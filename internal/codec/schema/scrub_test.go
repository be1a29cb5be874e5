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
		`secrets:{key:"password" value:"hunter2"}`:                                                              `secrets:‹scrubbed›`,
		"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,01\n\nhunter2\n-----END RSA PRIVATE KEY----- bad": "‹scrubbed› bad",
		"cut off: -----BEGIN PRIVATE KEY-----\nhunter2":                                                "cut off: ‹scrubbed›",
		"image registry.example.com/team/token:v1 not found":                                           "image registry.example.com/team/token:v1 not found",
		"pass 3 of 4 failed: no space left on device":                                                  "pass 3 of 4 failed: no space left on device",
		`failed to fetch token: Get "https://auth.example.com/token?service=x": dial tcp: i/o timeout`: `failed to fetch token: Get "https://auth.example.com/token?service=x": dial tcp: i/o timeout`,
		`auth:{username:"u" auth:"aHVudGVyMg=="}`:                                                      `auth:{username:"u" auth:‹scrubbed›}`,
		"{Username:u Auth:aHVudGVyMg==}":                                                               "{Username:u Auth:‹scrubbed›}",
		`secrets:{key:"userKey" value:"AQDh"}`:                                                         `secrets:‹scrubbed›`,
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
		"Password : hunter2":                                  "Password : ‹scrubbed›",
		"bearer hunter2 was refused":                          "bearer ‹scrubbed› was refused",
		"Bearer: hunter2, bearer token hunter2":               "Bearer: ‹scrubbed›, bearer token ‹scrubbed›",
		"app:hunter2@tcp(db:3306)/shop: refused":              "app:‹scrubbed›@tcp(db:3306)/shop: refused",
		`{"secret":{"data":"hunter2"},"code":7}`:              `{"secret":‹scrubbed›,"code":7}`,
		"secrets:map[a:hunter2 b:hunter2] is bad":             "secrets:‹scrubbed› is bad",
		"/x?o=password%3Dhunter2%2Cvers%3D3":                  "/x?o=password%3D‹scrubbed›%2Cvers%3D3",
		"<password>hunter2</password>":                        "<password>‹scrubbed›</password>",
		"pw=hunter2 pw: hunter2 _auth=hunter2":                "pw=‹scrubbed› pw: ‹scrubbed› _auth=‹scrubbed›",
		`"refresh_token":"hunter2" and cut: token":"hunter2"`: `"refresh_token":‹scrubbed› and cut: token":‹scrubbed›`,
		"password_in =\npassword: hunter2":                    "password_in =\npassword: ‹scrubbed›",
		"the password is hunter2":                             "the password is ‹scrubbed›",
		"CHAP password hunter2 for svc":                       "CHAP password ‹scrubbed› for svc",
		"password authentication failed for user \"app\"":     "password authentication failed for user \"app\"",
		"Basic Authentication is off":                         "Basic Authentication is off",
		// What signs a URL.
		"Get https://b.s3.amazonaws.com/k?X-Amz-Signature=hunter2&X-Amz-Expires=9: EOF": "Get https://b.s3.amazonaws.com/k?X-Amz-Signature=‹scrubbed›&X-Amz-Expires=9: EOF",
		"https://storage.googleapis.com/b?X-Goog-Signature=hunter2":                     "https://storage.googleapis.com/b?X-Goog-Signature=‹scrubbed›",
		"https://cdn.quay.io/x?Expires=1&Signature=hunter2~a&Key-Pair-Id=A":             "https://cdn.quay.io/x?Expires=1&Signature=‹scrubbed›&Key-Pair-Id=A",
		`{"url":"https://x.blob/c?sv=1\u0026sig=hunter2\u0026x=2"}`:                     `{"url":"https://x.blob/c?sv=1\u0026sig=‹scrubbed›\u0026x=2"}`,
		"signature=invalid: no matching signatures":                                     "signature=invalid: no matching signatures",
		// Structures.
		`{"password":["hunter2","hunter3"],"code":7}`:                            `{"password":‹scrubbed›,"code":7}`,
		`{"password": {"value":"hunter2"},"code":7}`:                             `{"password": ‹scrubbed›,"code":7}`,
		`{"name":"DB_PASSWORD","value":"hunter2"},{"name":"A","value":"b"}`:      `{"name":"DB_PASSWORD","value":‹scrubbed›},{"name":"A","value":"b"}`,
		"Envs:[]*KeyValue{&KeyValue{Key:DB_PASSWORD,Value:hunter2,},}":           "Envs:[]*KeyValue{&KeyValue{Key:DB_PASSWORD,Value:‹scrubbed›,},}",
		"- name: DB_PASSWORD\n  value: hunter2\n":                                "- name: DB_PASSWORD\n  value: ‹scrubbed›\n",
		"Secrets:map[string]string{password: hunter2,x: hunter3,},Readonly:true": "Secrets:‹scrubbed›,Readonly:true",
		"password: |\n  hunter2\n  more\nuser: x":                                "password: ‹scrubbed›\n‹scrubbed›user: x",
		// Other signs, and none.
		"password := hunter2, token=>hunter2":                                                "password :‹scrubbed› ‹scrubbed›, token=>‹scrubbed›",
		"client_secret%22%3A%22hunter2%22":                                                   "client_secret%22%3A%22‹scrubbed›%22",
		"password%3Dhun%21ter2%2Cvers%3D3":                                                   "password%3D‹scrubbed›%2Cvers%3D3",
		"MY_KEY=hunter2, node.session.auth.password_in: hunter2":                             "MY_KEY=‹scrubbed›, node.session.auth.password_in: ‹scrubbed›",
		"client-key-data: LS0tLS1CRUdJTiBSU0E= and LS0tLS1CRUdJTiBSU0E=":                     "client-key-data: ‹scrubbed› and ‹scrubbed›",
		"[client.admin]\n\tkey = AQD3aBcDeFgHiJkLmNoPqRsTuVwXyZ012345==\n":                   "[client.admin]\n\tkey = ‹scrubbed›\n",
		"Set-Cookie: a=b; session=hunter2; denied":                                           "Set-Cookie: ‹scrubbed›; denied",
		"mount -o user=svc%hunter2,vers=3.0 //a/b":                                           "mount -o user=svc%‹scrubbed›,vers=3.0 //a/b",
		"curl -s -u robot:hunter2 https://x/ failed":                                         "curl -s -u robot:‹scrubbed› https://x/ failed",
		`exec ["docker" "login" "-u" "x" "-p" "hunter2" "r"]: exit status 1`:                 `exec ["docker" "login" "-u" "x" "-p" "‹scrubbed›" "r"]: exit status 1`,
		"iscsiadm -m discovery -t st -p 10.0.0.7:3260: login failed":                         "iscsiadm -m discovery -t st -p 10.0.0.7:3260: login failed",
		"pull robot:hunter2@registry.example.com/x: denied":                                  "pull robot:‹scrubbed›@registry.example.com/x: denied",
		"nginx:1.27@sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a": "nginx:1.27@sha256:e4720093a3c1381245b53a5a51b417963b3c4472d3f47fc301930a4f3b17666a",
		"token_endpoint=https://x/ secretName=db":                                            "token_endpoint=https://x/ secretName=db",
	} {
		if got := Scrub(in); got != want {
			t.Errorf("%s\n  became   %s\n  expected %s", in, got, want)
		}
	}
}

// TestNamesAreScrubbed: a name takes a shorter way, on which nothing may pass
// that the longer one takes.
func TestNamesAreScrubbed(t *testing.T) {
	for in, want := range map[string]string{
		"//svc:hunter2@nas.example.com/share":   "//‹scrubbed›@nas.example.com/share",
		"robot:hunter2@registry.example.com/x":  "robot:‹scrubbed›@registry.example.com/x",
		"smb://svc:hunter2@nas/share":           "smb://‹scrubbed›@nas/share",
		"/share/password%3Dhunter2":             "/share/password%3D‹scrubbed›",
		"registry:5000/x:1@sha256:e4720093a3c1": "registry:5000/x:1@sha256:e4720093a3c1",
		"registry.example.com/team/token:v1":    "registry.example.com/team/token:v1",
	} {
		if got := ScrubName(in); got != want {
			t.Errorf("%s became %s, expected %s", in, got, want)
		}
	}
}
