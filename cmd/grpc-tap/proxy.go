package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newProxy() *cobra.Command {
	var cfg swapConfig
	var show showFlags
	c := &cobra.Command{
		Use:   "proxy --listen PATH --upstream PATH",
		Short: "Serve a path of its own, relay it to a runtime or driver, and show the calls",
		Long: `proxy listens on one Unix socket and relays each connection to another. Point a
client at the first (the kubelet's --container-runtime-endpoint, crictl's
--runtime-endpoint) and its calls to the second are shown, one line a call.

It starts without its upstream too: until that answers, clients are closed at
once, as they would be without grpc-tap. When proxy ends, or is killed, the
path is taken away, and connections that are open are relayed to their end by
a process of their own, so that no call is lost. With --fail-open the path is a
link to the upstream then, and whoever dials it gets that.

The filters choose what is printed. Spans are exported for every call, unless
--sampling-rate-per-million or OTEL_TRACES_SAMPLER says otherwise.`,
		Example: `  grpc-tap proxy --listen /run/tap.sock --upstream /run/containerd/containerd.sock
  crictl --runtime-endpoint unix:///run/tap.sock pods

  # only what fails or is slow
  grpc-tap proxy --listen /run/tap.sock --upstream /run/containerd/containerd.sock --errors
  grpc-tap proxy --listen /run/tap.sock --upstream /run/containerd/containerd.sock --slower-than 1s

  # spans to a collector
  grpc-tap proxy --listen /run/tap.sock --upstream /run/containerd/containerd.sock \
      --otlp-endpoint 127.0.0.1:4317 --otlp-insecure -o none`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := errors.Join(cfg.check(), show.check()); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			s := session{paths: []endpoint{swapped(cfg)}, show: &show, stdout: c.OutOrStdout(), stderr: c.ErrOrStderr()}
			return s.run(c.Context())
		},
	}
	swapFlags(c.Flags(), &cfg)
	show.add(c.Flags())
	return c
}
