package term

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// JSON writes records as JSON, one a line. It is not for use by several
// goroutines.
type JSON struct {
	out output
	buf bytes.Buffer
	enc *json.Encoder
}

// NewJSON returns a JSON that writes each record to w in one Write.
func NewJSON(w io.Writer) *JSON {
	j := &JSON{out: output{w: w}}
	j.enc = json.NewEncoder(&j.buf)
	j.enc.SetEscapeHTML(false) // "kubelet <-> containerd" is to stay legible
	return j
}

// Record writes r. After a failed write it writes nothing more; see Err.
func (j *JSON) Record(r *call.Record) {
	j.buf.Reset()
	if err := j.enc.Encode(r); err != nil {
		// Only a payload can be no JSON; the call is worth a line without it.
		bare := *r
		bare.Request, bare.Response, bare.Truncated = nil, nil, true
		j.buf.Reset()
		if err := j.enc.Encode(&bare); err != nil {
			j.out.fail(fmt.Errorf("record of %s/%s as JSON: %w", r.Service, r.Method, err))
			return
		}
	}
	j.out.write(escapeControls(j.buf.String()))
}

// Err is the first error.
func (j *JSON) Err() error { return j.out.err }

// output is a writer that remembers its first error, and then rests.
type output struct {
	w   io.Writer
	err error
}

func (o *output) write(s string) {
	if o.err != nil {
		return
	}
	_, err := io.WriteString(o.w, s)
	o.fail(err)
}

func (o *output) fail(err error) {
	if o.err == nil {
		o.err = err
	}
}
