package e2e

import (
	"context"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// TestContainerd takes a pod through its life on a real containerd, directly
// and through grpc-tap. The client sees no difference, and the records tell
// what it did.
func TestContainerd(t *testing.T) {
	r := lab.Containerd(t, lab.Options{})
	t.Logf("containerd %s", r.Version)
	direct := newClient(t, r.Socket)
	direct.live(r, "direct")

	collector := NewCollector(t)
	tap := Proxy(t, r.Socket, "--otlp-endpoint", collector.Address, "--otlp-insecure")
	began := time.Now()
	through := newClient(t, tap.Listen)
	pod := through.live(r, "through")
	requireEqual(t, direct.steps, through.steps)
	if !tap.Tells {
		t.Log("socat carried it and tells nothing: records and spans were not looked at")
		return
	}

	tap.Wait("the stream that was open all the while", isMethod("GetContainerEvents"))
	through.close() // a relay stays as long as its clients
	tap.Stop()
	if said := tap.Complained(); len(said) > 0 {
		t.Errorf("it did not read all of it:\n%s", strings.Join(said, "\n"))
	}
	records := tap.Records()
	made := map[string]int{}
	for _, s := range through.steps {
		made[s.Method]++
	}
	if told := byMethod(records); !maps.Equal(made, told) {
		t.Errorf("calls made: %v\ncalls told: %v", made, told)
	}
	for _, record := range records {
		checkRecord(t, tap, record, began)
	}
	checkStory(t, records, pod, through.steps)
	checkSpans(t, records, collector, tap)
	if t.Failed() {
		t.Logf("the records:\n%s", lines(records))
	}
}

func isMethod(method string) func(Record) bool {
	return func(r Record) bool { return r.Method == method }
}

// TestParent holds that a call that carries a traceparent is told as a child
// of the span that it names, in that trace.
func TestParent(t *testing.T) {
	r := lab.Containerd(t, lab.Options{})
	collector := NewCollector(t)
	tap := Proxy(t, r.Socket, "--otlp-endpoint", collector.Address, "--otlp-insecure")
	const traceID, parentID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	ctx := metadata.AppendToOutgoingContext(context.Background(), "traceparent", "00-"+traceID+"-"+parentID+"-01")
	c := newClient(t, tap.Listen)
	if _, err := c.Version(ctx, &cri.VersionRequest{}); err != nil {
		t.Fatal(err)
	}
	if !tap.Tells {
		return
	}
	record := tap.Wait("Version", isMethod("Version"))
	c.close()
	if record.TraceID != traceID || record.ParentSpanID != parentID || !record.NativeParent {
		t.Errorf("not told as a child of the caller's span: %s", record)
	}
	tap.Stop()
	span := collector.Spans()[record.SpanID]
	if span == nil {
		t.Fatal("no span of the call came")
	}
	checkIDs(t, record, span)
}

// TestOpenedBeforeKilled kills the process that decodes while a call runs: the
// call goes on, and ends as if nothing had been.
func TestOpenedBeforeKilled(t *testing.T) {
	r := lab.Containerd(t, lab.Options{})
	tap := Proxy(t, r.Socket)
	if !tap.Tells {
		return // socat is one process
	}
	c := newClient(t, tap.Listen)
	sandbox := &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: "survivor", Namespace: "e2e", Uid: "survivor"},
		Linux:    &cri.LinuxPodSandboxConfig{CgroupParent: r.CgroupParent},
	}
	p := &pod{sandbox: do(c, c.RunPodSandbox, &cri.RunPodSandboxRequest{Config: sandbox}).PodSandboxId}
	c.run(p, sandbox)
	began := r.Path("began")
	if err := os.Mkdir(began, 0o755); err != nil {
		t.Fatal(err)
	}
	type result struct {
		res *cri.ExecSyncResponse
		err error
	}
	ended := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		res, err := c.ExecSync(ctx, &cri.ExecSyncRequest{
			ContainerId: p.container,
			Cmd:         []string{"sh", "-c", "touch /began; while [ ! -e /go ]; do sleep 0.1; done; echo survived"},
		})
		ended <- result{res, err}
	}()
	// Another client, straight at containerd, sees it run and lets it end.
	other := newClient(t, r.Socket)
	exec := func(script string) int32 {
		return do(other, other.ExecSync, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: []string{"sh", "-c", script}}).ExitCode
	}
	tap.Until("the call runs", 10*time.Second, func() bool { return exec("test -e /began") == 0 })
	tap.Killed()
	exec("touch /go")
	if r := <-ended; r.err != nil || string(r.res.GetStdout()) != "survived\n" {
		t.Errorf("the call that ran while grpc-tap's decoder was killed: %v, %v", r.res, r.err)
	}
}
