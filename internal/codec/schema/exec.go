package schema

import "google.golang.org/protobuf/encoding/protowire"

// execSync is the method whose command may fail though the call is OK, as that
// of a probe.
const execSync = "runtime.v1.RuntimeService/ExecSync"

// exitCodeNumber is ExecSyncResponse's exit_code; it comes behind the output.
const exitCodeNumber = 3

// ExitCode is the exit code that an ExecSync's response tells. Not known where
// this is another method, or where not all of the response was seen.
func (m *Method) ExitCode(response Prefix) (code int32, known bool) {
	if m == nil || !m.exitCode {
		return 0, false
	}
	c := cursor{b: response.Bytes, whole: response.Whole}
	for c.next() {
		if c.number == exitCodeNumber && c.wire == protowire.VarintType {
			code, known = int32(c.bits), true
		}
	}
	if response.Past.counted() {
		if bits, ok := response.Past.last(exitCodeNumber); ok {
			code = int32(bits)
		}
		return code, true
	}
	// proto3 leaves out a zero.
	return code, known || response.Whole && !c.broken
}

// last is the number that a field had last, behind the prefix.
func (p *Past) last(n protowire.Number) (bits uint64, ok bool) {
	for _, x := range p.seen[:p.n] {
		if x.number == n && x.wire == protowire.VarintType {
			return x.bits, true
		}
	}
	return 0, false
}
