package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// Set by the Makefile; `go install` leaves them to the build information.
var (
	version = ""
	commit  = ""
)

func newVersion() *cobra.Command {
	var list bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Version, commit, Go, and the APIs that this build knows",
		Long: `version prints the version, commit and Go release, and the APIs that this build
knows. With --schema it prints what an auditor asks for: every field of every
message of these APIs, and what becomes of its value.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v, rev := versionInfo()
			out := c.OutOrStdout()
			fmt.Fprintf(out, "grpc-tap %s (commit %s, %s)\n", v, rev, runtime.Version())
			if list {
				fmt.Fprint(out, schemaLegend)
				return schema.Describe(out)
			}
			for _, api := range knownAPIs() {
				fmt.Fprintf(out, "  %s\n", api)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&list, "schema", false, "list every field of every API, and whether its value shows")
	return c
}

// schemaLegend explains the list of --schema, and adds what is no field.
const schemaLegend = `
# What becomes of each value under --payload safe:
#   show   it shows; of a map, that of the keys in brackets ([*]: any but those named as credentials)
#   text   it shows, scrubbed of credentials; --messages none: it does not show
#   name   its field's name, type and length show; --payload full: it shows
#   never  its field's name, type and length show, whatever is asked for
# A message shows only where the field that holds it does. Fields that a newer
# server may add, and all of services that are not listed: number, type and length.
#
# Of HTTP/2 headers and gRPC metadata:
:path, grpc-status, traceparent, tracestate show
grpc-message, grpc-status-details-bin text
everything else, and whatever is marked as never to be indexed: never
`

func versionInfo() (v, rev string) {
	v, rev = version, commit
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, rev
	}
	if v == "" {
		v = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && rev == "" {
			rev = s.Value
		}
	}
	if rev == "" {
		rev = "unknown"
	}
	return v, rev
}

// knownAPIs lists each known service with its number of methods and the module
// that its descriptors are from.
func knownAPIs() (out []string) {
	count := map[string]int{}
	for m := range schema.Methods() {
		count[m.Service]++
	}
	for _, s := range schema.Services() {
		out = append(out, fmt.Sprintf("%-52s %12s  %s", s.Name, plural(uint64(count[s.Name]), "method"), s.Release))
	}
	return out
}
