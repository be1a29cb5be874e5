package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// TestAgentTLS has an agent export to a collector that wants to know its clients. Both
// sides' certificates are replaced while it runs, as cert-manager does each month: it goes
// on with the new ones.
func TestAgentTLS(t *testing.T) {
	n := newFakeNode(t)
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	first, second := newAuthority(t), newAuthority(t)
	collector := NewCollector(t, grpc.Creds(first.server(t)))
	first.issue(t, files)
	a := onAgent(t, n, "otlpEndpoint: "+collector.Address)
	a.env = []string{"OTEL_EXPORTER_OTLP_CERTIFICATE=" + files[0], "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=" + files[1], "OTEL_EXPORTER_OTLP_CLIENT_KEY=" + files[2]}
	a.starts()
	a.stands(n.cri)
	exported := func(c *Collector) {
		t.Helper()
		a.Until("a span is exported", 2*eventuallyTime, func() bool {
			if err := version(n.cri); err != nil {
				t.Fatal(err)
			}
			return c.Total() > 0
		})
	}
	exported(collector)

	collector.server.Stop()
	next := &Collector{Address: collector.Address}
	next.serve(t, grpc.Creds(second.server(t)))
	a.Until("it says that it can't export", 2*eventuallyTime, func() bool { return strings.Contains(a.Said(), "certificate") })
	second.issue(t, files)
	exported(next)
}

// authority issues certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	cert, key := a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: rand.Text()}})
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key = parsed, key
	return a
}

// sign makes a certificate, or, as long as it has none, the authority's own.
func (a *authority) sign(t testing.TB, of *x509.Certificate) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of.SerialNumber, of.NotBefore, of.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = of, key
	}
	if der, err = x509.CreateCertificate(rand.Reader, of, parent, &key.PublicKey, by); err != nil {
		t.Fatal(err)
	}
	return der, key
}

// server is what a collector has, which asks for a certificate of the same authority.
func (a *authority) server(t testing.TB) credentials.TransportCredentials {
	t.Helper()
	der, key := a.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	clients := x509.NewCertPool()
	clients.AddCert(a.cert)
	return credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients,
	})
}

// issue writes the authority's certificate, and a client's with its key.
func (a *authority) issue(t testing.TB, files []string) {
	t.Helper()
	der, key := a.sign(t, &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	blocks := []*pem.Block{{Type: "CERTIFICATE", Bytes: a.cert.Raw}, {Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: plain}}
	for i, file := range files {
		err = errors.Join(err, os.WriteFile(file, pem.EncodeToMemory(blocks[i]), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}
