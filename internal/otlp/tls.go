package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/x509roots/fallback/bundle"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// secure are the credentials of plaintext, or of TLS by the files that …_CERTIFICATE (whom
// we trust), …_CLIENT_CERTIFICATE and …_CLIENT_KEY name. They are read anew for each
// connection: a process of ours outlives its certificates. One that can't be used now is
// an error.
func secure(s Signal, getenv Environment, plaintext bool) (credentials.TransportCredentials, error) {
	if plaintext {
		return insecure.NewCredentials(), nil
	}
	t := &transport{signal: s, env: getenv}
	cfg, err := t.config()
	if err != nil {
		return nil, err
	}
	t.TransportCredentials = credentials.NewTLS(cfg)
	return t, nil
}

type transport struct {
	credentials.TransportCredentials // of the files as they were
	signal                           Signal
	env                              Environment
}

// ClientHandshake implements credentials.TransportCredentials.
func (t *transport) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := t.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (t *transport) Clone() credentials.TransportCredentials {
	return &transport{t.TransportCredentials.Clone(), t.signal, t.env}
}

func (t *transport) config() (*tls.Config, error) {
	roots, err := t.roots()
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{RootCAs: roots}
	cert, certName := t.env.find(t.signal, "CLIENT_CERTIFICATE")
	key, keyName := t.env.find(t.signal, "CLIENT_KEY")
	switch {
	case cert == "" && key == "":
		return cfg, nil
	case key == "":
		return nil, fmt.Errorf("%s=%s has no key: name its file in OTEL_EXPORTER_OTLP_CLIENT_KEY", certName, cert)
	case cert == "":
		return nil, fmt.Errorf("%s=%s has no certificate: name its file in OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", keyName, key)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s name no certificate with its key, in PEM: %w", certName, keyName, err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

// roots are whom we trust.
func (t *transport) roots() (*x509.CertPool, error) {
	path, name := t.env.find(t.signal, "CERTIFICATE")
	if path == "" {
		return public(x509.SystemCertPool)
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s=%s holds no certificate in PEM", name, path)
	}
	return roots, nil
}

// public are the public authorities, as the machine knows them. An image from scratch
// knows none: those that Go's authors keep, then.
func public(system func() (*x509.CertPool, error)) (*x509.CertPool, error) {
	roots, err := system()
	if err != nil {
		return nil, fmt.Errorf("read whom this machine trusts: %w", err)
	}
	if !roots.Equal(x509.NewCertPool()) {
		return roots, nil
	}
	for c := range bundle.Roots() {
		cert, err := x509.ParseCertificate(c.Certificate)
		if err != nil {
			return nil, fmt.Errorf("read whom grpc-tap trusts: %w", err)
		}
		roots.AddCertWithConstraint(cert, c.Constraint)
	}
	return roots, nil
}
