package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// tapped is a grpc-tap that runs: its two processes, and where its spans go.
type tapped struct {
	relay, tap *process
	spans      *collector
}

// servedBy is how grpc-tap names its relay.
var servedBy = regexp.MustCompile(`relayed to .* by pid (\d+)`)

// startTap starts grpc-tap with everything on: payloads printed to a file, and spans exported.
func (b *bench) startTap(ctx context.Context, listen, upstream, printed string) (*tapped, error) {
	spans, err := collect(ctx)
	if err != nil {
		return nil, err
	}
	tap, err := b.start("tap", printed, b.binary, "proxy", "--listen", listen, "--upstream", upstream, "--drain", "1s",
		"-o", "json", "--otlp-endpoint", spans.address, "--otlp-insecure")
	if err != nil {
		return nil, err
	}
	var pid []string
	err = until(ctx, 10*time.Second, "grpc-tap does not serve", func() bool {
		pid = servedBy.FindStringSubmatch(tap.said.String())
		return pid != nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, tap.said)
	}
	relay := &process{name: "relay"}
	if relay.pid, err = strconv.Atoi(pid[1]); err != nil {
		return nil, err
	}
	return &tapped{relay, tap, spans}, nil
}

// end ends grpc-tap, whose clients are gone, and says why the run does not count, if it does not.
func (t *tapped) end(ctx context.Context, made int64) (account, error) {
	a, err := t.tell(ctx, made)
	if err == nil {
		err = a.counted()
	}
	return a, err
}

// tell ends grpc-tap and has it account for the calls that were made.
func (t *tapped) tell(ctx context.Context, made int64) (account, error) {
	t.tap.stop()
	if err := until(ctx, 5*time.Second, fmt.Sprintf("the relay (pid %d) does not end", t.relay.pid), t.relay.gone); err != nil {
		return account{}, err
	}
	a, err := readAccount(t.tap.said.String())
	if err != nil {
		return a, err
	}
	a.Made, a.Received = made, t.spans.spans.Load()
	return a, nil
}

// blind is an error once a connection is blind: what comes after would be measured without its decoding.
func (t *tapped) blind() error {
	if said := t.tap.said.String(); strings.Contains(said, "blind") {
		return fmt.Errorf("the run does not count: %s", said)
	}
	return nil
}
