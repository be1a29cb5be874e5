package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/grpc-tap/grpc-tap/internal/codec/schema"
)

// Set by the Makefile; `go install` leaves them to the build information.
var (
	version = ""
	commit  = ""
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Version, commit, Go, and the APIs that this build knows",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v, rev := versionInfo()
			out := c.OutOrStdout()
			fmt.Fprintf(out, "grpc-tap %s (commit %s, %s)\n", v, rev, runtime.Version())
			for _, api := range knownAPIs() {
				fmt.Fprintf(out, "  %s\n", api)
			}
			return nil
		},
	}
}

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
func knownAPIs() []string {
	modules := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			modules[m.Path] = m.Version
		}
	}
	var order []string
	count := map[string]int{}
	for m := range schema.Methods() {
		if count[m.Service] == 0 {
			order = append(order, m.Service)
		}
		count[m.Service]++
	}
	var out []string
	for _, s := range order {
		module := "k8s.io/cri-api"
		if strings.HasPrefix(s, "csi.") {
			module = "github.com/container-storage-interface/spec"
		}
		out = append(out, fmt.Sprintf("%-27s %2d methods  %s %s", s, count[s], module, modules[module]))
	}
	return out
}
