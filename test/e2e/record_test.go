package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// Record is a line of `-o json`. The names are written out here, and not
// taken from internal/call, because users' scripts rely on them: to rename
// one there must break a test.
type Record struct {
	Start      time.Time `json:"start"`
	DurationMS float64   `json:"duration_ms"`
	State      string    `json:"state"`
	Service    string    `json:"service"`
	Method     string    `json:"method"`
	Code       string    `json:"code"`
	Message    string    `json:"message"`
	Socket     string    `json:"socket"`
	Caller     struct {
		PID int    `json:"pid"`
		Exe string `json:"exe"`
	} `json:"caller"`
	Pod struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
		UID       string `json:"uid"`
	} `json:"pod"`
	Container struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"container"`
	SandboxID        string          `json:"sandbox_id"`
	Image            string          `json:"image"`
	Request          json.RawMessage `json:"request"`
	Response         json.RawMessage `json:"response"`
	RequestBytes     int64           `json:"request_bytes"`
	ResponseBytes    int64           `json:"response_bytes"`
	RequestMessages  int64           `json:"request_messages"`
	ResponseMessages int64           `json:"response_messages"`
	TraceID          string          `json:"trace_id"`
	SpanID           string          `json:"span_id"`
	ParentSpanID     string          `json:"parent_span_id"`
	NativeParent     bool            `json:"native_parent"`
	Connection       uint64          `json:"connection"`
	Stream           uint32          `json:"stream"`

	line string // as it was printed
}

func (r Record) String() string { return r.line }

// readRecords reads the whole lines that a file of records has by now.
func readRecords(t testing.TB, path string) (records []Record) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // being written
		}
		r := Record{line: string(bytes.TrimSpace(line))}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("not a record on stdout: %v: %s", err, line)
		}
		records = append(records, r)
	}
	return records
}

// byMethod counts records.
func byMethod(records []Record) map[string]int {
	n := map[string]int{}
	for _, r := range records {
		n[r.Method]++
	}
	return n
}

// lines is records as they were printed, for a failure's message.
func lines(records []Record) string {
	var b bytes.Buffer
	for _, r := range records {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}
