package call

import (
	"slices"
	"strconv"
)

// codeNames are the canonical names of gRPC's status codes, by number, as
// google/rpc/code.proto spells them (CANCELLED has two Ls) and OpenTelemetry's
// rpc.response.status_code wants them.
var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
	"ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
	"ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

// CodeName is the canonical name of a gRPC status code; a number that gRPC
// does not define is "CODE(n)", as grpc-go prints it.
func CodeName(code uint32) string {
	if int(code) < len(codeNames) {
		return codeNames[code]
	}
	return "CODE(" + strconv.FormatUint(uint64(code), 10) + ")"
}

// IsCode: it is the name of a code that gRPC defines.
func IsCode(name string) bool { return slices.Contains(codeNames[:], name) }
