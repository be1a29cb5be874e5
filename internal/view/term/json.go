package term

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// JSON writes records as JSON, one a line. It is not for use by several
// goroutines.
type JSON struct {
	out  output
	line bytes.Buffer
	enc  *json.Encoder
	buf  []byte // lines to be written
}

// NewJSON returns a JSON that writes to w whole lines, many at once.
func NewJSON(w io.Writer) *JSON {
	j := &JSON{out: output{w: w}}
	j.enc = json.NewEncoder(&j.line)
	j.enc.SetEscapeHTML(false) // "kubelet <-> containerd" is to stay legible
	return j
}

// Records writes them. After a failed write it writes nothing more; see Err.
func (j *JSON) Records(all []*call.Record) {
	for _, r := range all {
		j.buf = append(j.buf, j.encode(r)...)
		j.buf = j.out.writeFrom(j.buf, writeFrom)
	}
	j.buf = j.out.writeFrom(j.buf, 1)
}

func (j *JSON) encode(r *call.Record) string {
	j.line.Reset()
	if j.enc.Encode(r) != nil {
		// Only a payload can be no JSON; the call is worth a line without it.
		bare := *r
		bare.Request, bare.Response, bare.Truncated = nil, nil, true
		j.line.Reset()
		_ = j.enc.Encode(&bare)
	}
	return escapeControls(j.line.String())
}

// Err is the first error.
func (j *JSON) Err() error { return j.out.err }

// writeFrom is from when on lines are written though more of them come, in bytes.
const writeFrom = 32 << 10

// output is a writer that remembers its first error, and then rests.
type output struct {
	w   io.Writer
	err error
}

// writeFrom writes buf if it is so long, and gives back what is left of it.
func (o *output) writeFrom(buf []byte, length int) []byte {
	if len(buf) < length {
		return buf
	}
	if o.err == nil {
		_, o.err = o.w.Write(buf)
	}
	return buf[:0]
}
