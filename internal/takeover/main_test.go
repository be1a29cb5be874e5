package takeover

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
)

// TestMain is also the other processes of the tests: the test binary, started
// again with a part to play.
func TestMain(m *testing.M) {
	if part := os.Getenv("TAKEOVER_TEST_PART"); part != "" {
		if err := playServer(part, os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// playServer serves gRPC at path until stdin ends. It says "ready" first.
func playServer(part, path string) error {
	lis, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	lis.(*net.UnixListener).SetUnlinkOnClose(false)
	s := grpc.NewServer()
	go func() { _ = s.Serve(lis) }()
	if part == "busy" {
		var turns atomic.Int64
		go func() {
			for {
				turns.Add(1)
			}
		}()
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	s.Stop()
	return err
}
