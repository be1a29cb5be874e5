package tier

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grpc-tap/grpc-tap/test/lab"
)

// Collector is a real OpenTelemetry Collector, with a config of deploy/observability.
type Collector struct {
	*lab.Process
	Address string // OTLP
	own     string // its own metrics' page
}

// Setup is where a collector listens, and what is different here from its config.
type Setup struct {
	Config string // below deploy/observability
	Host   string
	Port   int      // of OTLP; 0: any
	Traces string   // where it sends them
	Set    []string // over it: yaml:a::b: value, or another file
	Hosts  string   // is its /etc/hosts, where there is one
}

// otelcol is the binary. test/lab/tier.sh says where it is.
func otelcol(t testing.TB) string {
	t.Helper()
	path := os.Getenv("OTELCOL")
	if path == "" {
		t.Skip("this machine cannot run it: no OpenTelemetry Collector (OTELCOL): sh test/lab/tier.sh")
	}
	return path
}

// Start starts a collector and waits until it is ready.
func Start(t testing.TB, l *lab.Lab, s Setup) *Collector {
	t.Helper()
	ports := free(t, s.Host, 3)
	if s.Port == 0 {
		s.Port = ports[0]
	}
	at := func(port int) string { return net.JoinHostPort(s.Host, strconv.Itoa(port)) }
	c := &Collector{Address: at(s.Port), own: at(ports[1])}
	argv := []string{otelcol(t), "--config=" + filepath.Join("../../deploy/observability", s.Config)}
	for _, set := range append(s.Set,
		"yaml:receivers::otlp::protocols::grpc::endpoint: "+c.Address,
		"yaml:extensions::health_check::endpoint: "+at(ports[2]),
		"yaml:service::telemetry::logs::level: warn",
		// What deployment.yaml's limit of 512Mi comes to.
		"yaml:processors::memory_limiter: {limit_mib: 410, spike_limit_mib: 102}",
		fmt.Sprintf("yaml:service::telemetry::metrics::readers: [{pull: {exporter: {prometheus: {host: %s, port: %d}}}}]", s.Host, ports[1]),
	) {
		argv = append(argv, "--config="+set)
	}
	if s.Hosts != "" {
		argv = append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, s.Hosts}, argv...)
	}
	c.Process = l.Start("otelcol", []string{"TRACES_ENDPOINT=" + s.Traces, "GOMEMLIMIT=400MiB"}, argv...)
	c.Until("it is ready", eventually, func() bool {
		res, err := http.Get("http://" + at(ports[2]))
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return c
}

// End ends a collector as its kubelet does.
func (c *Collector) End(t testing.TB) {
	t.Helper()
	if err := c.Stop(eventually); err != nil {
		t.Errorf("collector: %v", err)
	}
}

// CPU is the processor time that it has used (proc_pid_stat(5), fields 14 and 15).
func (c *Collector) CPU(t testing.TB) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.PID()))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / 100 // USER_HZ
}

// Value is the sum of one of its own metrics over all labels.
func (c *Collector) Value(t testing.TB, name string) int {
	t.Helper()
	res, err := http.Get("http://" + c.own + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:_total)?(?:\{.*\})? (\S+)$`).FindAllSubmatch(page, -1) {
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return int(sum)
}

// free are ports that nobody listens on.
func free(t testing.TB, host string, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
