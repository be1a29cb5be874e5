package schema

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	criapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func status(t testing.TB, details ...proto.Message) []byte {
	s := &spb.Status{Code: 9, Message: "no"}
	for _, d := range details {
		a, err := anypb.New(d)
		must(t, err)
		s.Details = append(s.Details, a)
	}
	return marshal(t, s)
}

func TestDetails(t *testing.T) {
	raw := status(t,
		&errdetails.ErrorInfo{Reason: "QUOTA", Domain: "storage.example.com", Metadata: map[string]string{"password": "hunter2"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500e6)},
		&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: "ATTACHED", Subject: "vol-1", Description: "login with password=hunter2 failed"}}},
		&errdetails.RequestInfo{RequestId: "r1", ServingData: "hunter2"},
		&criapi.AuthConfig{Password: "hunter2"},
	)
	const want = `[{"@type":"google.rpc.ErrorInfo","reason":"QUOTA","domain":"storage.example.com","metadata":{"password":"‹string, 7 bytes›"}},` +
		`{"@type":"google.rpc.RetryInfo","retry_delay":{"seconds":1,"nanos":500000000}},` +
		`{"@type":"google.rpc.PreconditionFailure","violations":[{"type":"ATTACHED","subject":"vol-1","description":"login with password=‹scrubbed› failed"}]},` +
		`{"@type":"google.rpc.RequestInfo","request_id":"r1","serving_data":"‹string, 7 bytes›"},` +
		`{"@type":"runtime.v1.AuthConfig","2":"‹7 bytes›"}]`
	out, trimmed := Policy{}.Details(raw, 4096)
	if string(out) != want || trimmed {
		t.Errorf("trimmed %v:\n%s", trimmed, out)
	}
	if out, _ := (Policy{NoMessages: true}).Details(raw, 4096); out != nil {
		t.Errorf("without messages: %s", out)
	}
	if out, _ := (Policy{}).Details(status(t), 4096); out != nil {
		t.Errorf("there are none: %s", out)
	}
}

// FuzzDetails: any bytes give a JSON array within the budget, or nothing.
func FuzzDetails(f *testing.F) {
	f.Add(status(f, &errdetails.ErrorInfo{Reason: "x", Metadata: map[string]string{"a": "b"}}), uint16(500))
	f.Add(status(f, &errdetails.DebugInfo{StackEntries: strings.Split(strings.Repeat("at x\n", 500), "\n")}), uint16(300))
	f.Add([]byte("\x1a\x05\x0a\x03\"\n\xff"), uint16(300))
	f.Fuzz(func(t *testing.T, raw []byte, budget uint16) {
		out, _ := Policy{}.Details(raw, int(budget))
		if out == nil {
			return
		}
		var v []map[string]any
		if err := json.Unmarshal(out, &v); err != nil || len(out) > int(budget) {
			t.Fatalf("%v, %d bytes of %d: %s", err, len(out), budget, out)
		}
	})
}
