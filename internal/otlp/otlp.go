// Package otlp is how a collector is reached, whatever is sent there: where it is, in
// plaintext or by TLS, and how soon it is noticed that it is no more.
//
// Its rule: flags and OTLP's standard variables say it, and what is wrong with one is an
// error that names it, and never what it holds: that may be a secret.
package otlp

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Signal is what is sent, as it is called in OTLP's variables.
type Signal string

// The signals that we send.
const (
	Traces  Signal = "TRACES"
	Metrics Signal = "METRICS"
)

// Environment is os.Getenv, but for tests.
type Environment func(name string) string

// Find is the value of a signal's own variable, or else of that for all signals.
func (getenv Environment) Find(s Signal, name string) string {
	value, _ := getenv.find(s, name)
	return value
}

func (getenv Environment) find(s Signal, name string) (value, variable string) {
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_" + string(s) + "_" + name, "OTEL_EXPORTER_OTLP_" + name} {
		if v := strings.TrimSpace(getenv(variable)); v != "" {
			return v, variable
		}
	}
	return "", ""
}

// Flags are what a person says, which wins over variables.
type Flags struct {
	Endpoint string // HOST:PORT; "": the variables say it
	Insecure bool   // plaintext
}

// Collector is one that a signal is sent to. Where the flags have no endpoint, the
// exporter's library finds it in the variables by itself.
type Collector struct {
	Name        string // as a person knows it, without a password
	Credentials credentials.TransportCredentials
}

// Collector is the one that flags and variables name.
func (f Flags) Collector(s Signal, getenv Environment) (c Collector, err error) {
	if err := check(s, getenv); err != nil {
		return c, err
	}
	plaintext := f.Insecure
	if c.Name = f.Endpoint; f.Endpoint != "" {
		if err := CheckEndpoint(f.Endpoint); err != nil {
			return c, err
		}
		plaintext = plaintext || insecureVariable(s, getenv)
	} else {
		c.Name = endpoint(s, getenv)
		plaintext = plaintext || takesPlaintext(s, getenv)
	}
	c.Credentials, err = secure(s, getenv, plaintext)
	return c, err
}

// CheckEndpoint: the flag is HOST:PORT and nothing else.
func CheckEndpoint(s string) error {
	example := "as in --otlp-endpoint 127.0.0.1:4317 (plaintext: add --otlp-insecure)"
	if strings.Contains(s, "/") {
		return fmt.Errorf("--otlp-endpoint %q: want HOST:PORT without scheme or path, %s", s, example)
	}
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t") {
		return fmt.Errorf("--otlp-endpoint %q: want HOST:PORT, %s", s, example)
	}
	return nil
}

// endpoint is the one that the exporter will take from the variables.
func endpoint(s Signal, getenv Environment) string {
	v := getenv.Find(s, "ENDPOINT")
	if u, err := url.Parse(v); err == nil && v != "" {
		return u.Redacted()
	}
	return "localhost:4317"
}

// takesPlaintext: of the variables' endpoint the scheme decides; where it has none,
// …_INSECURE does.
func takesPlaintext(s Signal, getenv Environment) bool {
	if u, err := url.Parse(getenv.Find(s, "ENDPOINT")); err == nil {
		switch strings.ToLower(u.Scheme) {
		case "http", "unix":
			return true
		case "https":
			return false
		}
	}
	return insecureVariable(s, getenv)
}

func insecureVariable(s Signal, getenv Environment) bool {
	return strings.EqualFold(getenv.Find(s, "INSECURE"), "true")
}

// A node that vanished says nothing. It is asked with the first request after this long
// without a word from it: no more often than its answers allow.
const (
	silentFor   = 20 * time.Second
	answerAfter = 10 * time.Second
)

// Keepalive has a collector that vanished noticed within half a minute, where TCP would
// take a quarter of an hour.
func Keepalive() grpc.DialOption {
	return grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: silentFor, Timeout: answerAfter})
}
