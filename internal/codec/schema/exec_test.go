package schema

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExitCode(t *testing.T) {
	exec := lookup("runtime.v1.RuntimeService", "ExecSync")
	failed, err := proto.Marshal(&criapi.ExecSyncResponse{Stdout: []byte("unhealthy"), ExitCode: 3})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		method   *Method
		response []byte
		whole    bool
		code     int32
		known    bool
	}{
		"failed":           {exec, failed, true, 3, true},
		"zero is left out": {exec, nil, true, 0, true},
		"cut before it":    {exec, failed[:5], false, 0, false},
		"cut behind it":    {exec, failed, false, 3, true},
		"no protobuf":      {exec, []byte{0xff}, true, 0, false},
		"another method":   {lookup("runtime.v1.RuntimeService", "Version"), nil, true, 0, false},
	} {
		if code, known := c.method.ExitCode(Prefix{Bytes: c.response, Whole: c.whole}); code != c.code || known != c.known {
			t.Errorf("%s: %d, %v", name, code, known)
		}
	}
}

// TestExitCodeBehindMegabytes: the exit code follows the output, and is told
// however much that is, as are the sizes.
func TestExitCodeBehindMegabytes(t *testing.T) {
	exec := lookup("runtime.v1.RuntimeService", "ExecSync")
	for _, code := range []int32{0, 1, 137} {
		wire := marshal(t, &criapi.ExecSyncResponse{Stdout: make([]byte, 3<<20), Stderr: make([]byte, 1<<20+1), ExitCode: code})
		const kept = 64 << 10
		from := Prefix{Bytes: wire[:kept], Past: Follow(wire[:kept])}
		for rest := wire[kept:]; len(rest) > 0; {
			n := min(len(rest), 16<<10)
			from.Past.Write(rest[:n])
			rest = rest[n:]
		}
		if got, known := exec.ExitCode(from); got != code || !known {
			t.Errorf("exit code %d: told %d, %v", code, got, known)
		}
		out, _ := (&Renderer{Policy: Policy{}}).Render(exec.Response, from, 2048)
		if code != 0 && string(out) != fmt.Sprintf(`{"exit_code":%d,"stdout":"‹3145728 bytes›","stderr":"‹1048577 bytes›"}`, code) {
			t.Errorf("exit code %d: %s", code, out)
		}
	}
}
