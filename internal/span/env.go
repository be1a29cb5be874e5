package span

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// CheckEnv says which of the variables that an OTLP exporter of a signal ("TRACES",
// "METRICS") reads it can't make sense of. The SDK would pass such a one over, go to
// localhost or without credentials, and say so past our log with the value, which may be
// a password or a token: so none is in the error, nor an error of package url, which has it.
func CheckEnv(signal string, getenv func(string) string) error {
	for _, of := range []string{"OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_" + signal + "_"} {
		if _, err := url.Parse(strings.TrimSpace(getenv(of + "ENDPOINT"))); err != nil {
			return fmt.Errorf("%sENDPOINT is no URL: want one as in http://127.0.0.1:4317 (https:// for TLS)", of)
		}
		for i, pair := range strings.Split(getenv(of+"HEADERS"), ",") {
			if !isHeader(pair) {
				return fmt.Errorf("%sHEADERS: its part %d, by commas, is no KEY=VALUE: want it as in authorization=Bearer%%20TOKEN,x-tenant=NAME (a %% is %%25)", of, i+1)
			}
		}
	}
	return nil
}

// isHeader: pair is one, or nothing.
func isHeader(pair string) bool {
	key, value, _ := strings.Cut(pair, "=")
	_, err := url.PathUnescape(value)
	return strings.TrimSpace(pair) == "" || strings.Contains(pair, "=") && err == nil && httpguts.ValidHeaderFieldName(strings.TrimSpace(key))
}

// envEndpoint is the endpoint that the exporter will take from the environment, which
// CheckEnv found right.
func envEndpoint(getenv func(string) string) string {
	v, _ := first(getenv, endpointVars)
	if u, err := url.Parse(v); err == nil && v != "" {
		return u.Redacted()
	}
	return "localhost:4317"
}

// first is the first of vars that is set, and its name.
func first(getenv func(string) string, vars []string) (value, name string) {
	for _, name := range vars {
		if v := strings.TrimSpace(getenv(name)); v != "" {
			return v, name
		}
	}
	return "", ""
}

// positiveEnv reads a count; what is none, or not above zero, is the default.
func positiveEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(strings.TrimSpace(os.Getenv(name))); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// envMilliseconds is a time, of a year at most: more would not fit a Duration.
func envMilliseconds(name string, otherwise int) time.Duration {
	return min(time.Duration(positiveEnv(name, otherwise)), 365*24*3600*1000) * time.Millisecond
}
