// Package e2e runs grpc-tap between real clients and real servers, and holds
// what it lets pass and what it tells against what they saw.
//
// RELAY=socat puts socat in grpc-tap's place: it carries, and tells nothing.
// A test that fails with it as well has found a bug of its own.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the grpc-tap under test, built from the checkout.
var binary string

// TestMain is also a client of another name: see pollAs.
func TestMain(m *testing.M) {
	if socket := os.Getenv(pollSocket); socket != "" {
		if err := poll(socket); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "grpc-tap-e2e-")
	if err == nil {
		binary, err = build(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir string) (string, error) {
	if os.Getenv("RELAY") == "socat" {
		return "", nil
	}
	path := filepath.Join(dir, "grpc-tap")
	cmd := exec.Command("go", "build", "-o", path, "../../cmd/grpc-tap")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/grpc-tap: %w\n%s", err, out)
	}
	return path, nil
}

// notSocat skips a test of what socat in grpc-tap's place does not do.
func notSocat(t testing.TB, does string) {
	t.Helper()
	if binary == "" {
		t.Skip("socat " + does)
	}
}
