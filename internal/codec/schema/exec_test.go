package schema

import (
	"testing"

	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExitCode(t *testing.T) {
	exec := Lookup("runtime.v1.RuntimeService", "ExecSync")
	failed, err := proto.Marshal(&runtime.ExecSyncResponse{Stdout: []byte("unhealthy"), ExitCode: 3})
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
		"another method":   {Lookup("runtime.v1.RuntimeService", "Version"), nil, true, 0, false},
	} {
		if code, known := c.method.ExitCode(c.response, c.whole); code != c.code || known != c.known {
			t.Errorf("%s: %d, %v", name, code, known)
		}
	}
}
