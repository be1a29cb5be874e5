package schema

import "google.golang.org/protobuf/encoding/protowire"

// ExitCode is the exit code that an ExecSync's response tells: a probe that
// failed is OK as a call. Not known where this is another method, or where a
// prefix ends before the field, which follows the command's output.
func (m *Method) ExitCode(response []byte, whole bool) (code int32, known bool) {
	if m.Service != "runtime.v1.RuntimeService" || m.Name != "ExecSync" {
		return 0, false
	}
	number := m.Response.Fields().ByName("exit_code").Number()
	c := cursor{b: response, whole: whole}
	for c.next() {
		if c.number == number && c.wire == protowire.VarintType {
			code, known = int32(c.bits), true
		}
	}
	// proto3 leaves out a zero.
	return code, known || whole && !c.broken
}
