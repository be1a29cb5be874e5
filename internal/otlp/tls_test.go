package otlp

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// A file that can't be used is an error from the start, that says which one and of what
// variable: the exporter's own library goes on without it.
func TestFilesOfNoUse(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	const ca, cert, key = "OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY"
	for name, c := range map[string]struct {
		env  map[string]string
		says []string
	}{
		"no such CA":           {map[string]string{ca: "/absent"}, []string{ca, "/absent", "no such file"}},
		"CA is no certificate": {map[string]string{ca: text}, []string{ca, text, "no certificate in PEM"}},
		"the traces' own":      {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": text}, []string{"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", text}},
		"no key":               {map[string]string{cert: text}, []string{cert, text, key}},
		"no certificate":       {map[string]string{key: text}, []string{key, text, cert}},
		"neither is PEM":       {map[string]string{cert: text, key: text}, []string{cert, key, "PEM"}},
	} {
		t.Run(name, func(t *testing.T) {
			env := func(name string) string { return c.env[name] }
			_, err := secure(Traces, env, false)
			for _, say := range c.says {
				if err == nil || !strings.Contains(err.Error(), say) {
					t.Errorf("%v does not say %q", err, say)
				}
			}
			if _, err := secure(Traces, env, true); err != nil {
				t.Errorf("in plaintext: %v", err)
			}
		})
	}
}

func TestPlaintext(t *testing.T) {
	for _, c := range []struct {
		endpoint, insecure string
		want               bool
	}{
		{"http://h:1", "", true},
		{"http://h:1", "false", true},
		{"unix:///x", "", true},
		{"https://h:1", "true", false},
		{"h:1", "", false},
		{"h:1", "true", true},
		{"", "TRUE", true},
		{"", "", false},
	} {
		env := func(name string) string {
			return map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": c.endpoint, "OTEL_EXPORTER_OTLP_INSECURE": c.insecure,
				"OTEL_EXPORTER_OTLP_ENDPOINT": "https://other:1", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "true"}[name]
		}
		if c.endpoint == "" {
			env = func(name string) string { return map[string]string{"OTEL_EXPORTER_OTLP_INSECURE": c.insecure}[name] }
		}
		if got := takesPlaintext(Metrics, env); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// An image from scratch trusts the public authorities too; a machine that names its own
// trusts those and no others.
func TestWhomWeTrust(t *testing.T) {
	none := x509.NewCertPool()
	ours, err := public(func() (*x509.CertPool, error) { return none.Clone(), nil })
	if err != nil || ours.Equal(none) {
		t.Errorf("where a machine names nobody, nobody is trusted: %v", err)
	}
	one := x509.NewCertPool()
	for c := range bundle.Roots() {
		cert, err := x509.ParseCertificate(c.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		one.AddCert(cert)
		break
	}
	theirs, err := public(func() (*x509.CertPool, error) { return one.Clone(), nil })
	if err != nil || !theirs.Equal(one) {
		t.Errorf("where a machine names whom it trusts, others are: %v", err)
	}
}
