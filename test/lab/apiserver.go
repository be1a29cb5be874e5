package lab

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"
)

// APIServer is a Kubernetes API server and its etcd, on 127.0.0.1 in the lab's network
// namespace. Who has its token may do anything. There is no controller and no scheduler
// (but for those of Controllers): what they would do is the test's, or a kubelet's
// (Runtime.Node).
type APIServer struct {
	*Process
	Kubeconfig string

	lab    *Lab
	client *http.Client
}

const (
	apiAddress = "127.0.0.1:6443"
	apiToken   = "lab"
	// NodeAddress is the node's: a kubelet takes no loopback address for its own. It
	// is given to the lab's loopback interface.
	NodeAddress = "10.99.0.1"
)

// kube is the program of test/lab/testdata/kube as one of those that it is.
func kube(t testing.TB, name string) []string {
	t.Helper()
	program := os.Getenv("KUBE")
	if program == "" {
		t.Fatal("KUBE does not name the Kubernetes to run; run test/lab/cluster.sh")
	}
	return []string{program, name}
}

// APIServer starts etcd and an API server in the lab.
func (l *Lab) APIServer() *APIServer {
	t := l.t
	t.Helper()
	l.isolate()
	if _, err := l.Run(need(t, "busybox"), "ip", "address", "add", NodeAddress+"/32", "dev", "lo"); err != nil {
		t.Fatalf("lab: %v", err)
	}
	const etcd, peers = "127.0.0.1:2379", "http://127.0.0.1:2380"
	l.Start("etcd", nil, append(kube(t, "etcd"), "--data-dir", l.Path("etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls=http://"+etcd, "--advertise-client-urls=http://"+etcd, "--listen-peer-urls="+peers,
		"--initial-advertise-peer-urls="+peers, "--initial-cluster=default="+peers)...).Accepts(etcd, 30*time.Second)
	key := l.Write("apiserver/accounts.key", newKey(t))
	a := &APIServer{lab: l, Kubeconfig: l.Write("apiserver/kubeconfig", kubeconfig())}
	a.Process = l.Start("apiserver", nil, append(kube(t, "kube-apiserver"), "--etcd-servers=http://"+etcd,
		"--bind-address=127.0.0.1", "--advertise-address="+NodeAddress, "--endpoint-reconciler-type=none",
		"--cert-dir", l.Path("apiserver/certs"), "--service-cluster-ip-range=10.96.0.0/16",
		"--token-auth-file", l.Write("apiserver/tokens", apiToken+",lab,lab,system:masters\n"), "--authorization-mode=AlwaysAllow",
		"--service-account-issuer=https://lab.invalid", "--service-account-key-file", key, "--service-account-signing-key-file", key,
		// Nobody is there to make service accounts, or to let go of what is in use.
		"--disable-admission-plugins=ServiceAccount,StorageObjectInUseProtection",
		"--kubelet-preferred-address-types=InternalIP", "--allow-privileged")...)
	// It has made its certificate itself, and is reached inside the namespace only.
	a.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: l.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	a.Until("it is ready", time.Minute, func() bool {
		code, _ := a.do("GET", "/readyz", nil, nil)
		return code == http.StatusOK
	})
	return a
}

// newKey is a private key in PEM.
func newKey(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// kubeconfig is how the API server's clients find it: JSON will do for YAML.
func kubeconfig() string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "lab",
"clusters": [{"name": "lab", "cluster": {"server": "https://%s", "insecure-skip-tls-verify": true}}],
"users": [{"name": "lab", "user": {"token": %q}}],
"contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}]}
`, apiAddress, apiToken)
}

// object is one of the API's.
type object = map[string]any

// create makes an object, and decodes it as it then is into out, unless that is nil.
func (a *APIServer) create(path string, o object, out any) {
	a.lab.t.Helper()
	if _, err := a.do("POST", path, o, out); err != nil {
		a.lab.t.Fatalf("lab: %v", err)
	}
}

// patch changes an object.
func (a *APIServer) patch(path string, change object) {
	a.lab.t.Helper()
	if _, err := a.do("PATCH", path, change, nil); err != nil {
		a.lab.t.Fatalf("lab: %v", err)
	}
}

// get decodes an object into out; false: there is none.
func (a *APIServer) get(path string, out any) bool {
	a.lab.t.Helper()
	code, err := a.do("GET", path, nil, out)
	if err != nil && code != http.StatusNotFound {
		a.lab.t.Fatalf("lab: %v", err)
	}
	return err == nil
}

// delete asks for an object's end, if there is one.
func (a *APIServer) delete(path string) {
	a.lab.t.Helper()
	if code, err := a.do("DELETE", path, nil, nil); err != nil && code != http.StatusNotFound {
		a.lab.t.Fatalf("lab: %v", err)
	}
}

func (a *APIServer) do(method, path string, in, out any) (code int, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequest(method, "https://"+apiAddress+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+apiToken)
	req.Header.Set("Content-Type", "application/json")
	if method == "PATCH" {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	res, err := a.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return 0, err
	case res.StatusCode >= 300:
		return res.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, res.Status, said)
	case out != nil:
		err = json.Unmarshal(said, out)
	}
	return res.StatusCode, err
}
