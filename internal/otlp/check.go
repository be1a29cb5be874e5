package otlp

import (
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// check says which of the variables that a signal's exporter reads it can't make sense of.
// The SDK would pass such a one over, go to localhost or without credentials, and say so
// past our log with the value, which may be a password or a token: so none is in the
// error, nor an error of package url, which has it.
func check(s Signal, getenv Environment) error {
	for _, of := range []string{"OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_" + string(s) + "_"} {
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
