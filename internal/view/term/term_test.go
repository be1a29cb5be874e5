package term

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/grpc-tap/grpc-tap/internal/call"
)

// At every width: a column is at one place in every line, and no line of cells
// is wider than the terminal.
func TestColumnsStay(t *testing.T) {
	for width := 80; width <= 240; width++ {
		l := newLayout(width, false)
		if l.columns() > width {
			t.Fatalf("width %d: the columns take %d", width, l.columns())
		}
		for _, r := range scene() {
			line, _, _ := strings.Cut(draw(Options{Width: width}, r), "\n")
			if n := displayWidth(line); n > width {
				t.Errorf("width %d: line of %d: %s", width, n, line)
			}
			code, _ := outcome(r)
			at := prefix(line, l.columns()-l.code)
			if line[at-1] != ' ' || !strings.HasPrefix(line[at:], cutEnd(code, l.code)) {
				t.Errorf("width %d: no code at its column: %s", width, line)
			}
		}
	}
	for _, r := range scene() {
		line, _, _ := strings.Cut(draw(Options{Wide: true}, r), "\n")
		if n := displayWidth(line); n > 200 || !strings.HasSuffix(line, " "+r.TraceID) {
			t.Errorf("wide: line of %d: %s", n, line)
		}
	}
}

// A message is there in full, at any width, with every line of it.
func TestMessageInFull(t *testing.T) {
	var long strings.Builder
	for i := 0; long.Len() < 9000; i++ {
		fmt.Fprintf(&long, "line %d: größer als 注文 — %s\n", i, strings.Repeat("x", i%200))
		if i%10 == 0 {
			long.WriteByte('\n')
		}
	}
	for _, message := range []string{
		"short", "first\nsecond", "first\r\n\r\nthird", nfsMessage, long.String(), strings.Repeat("no end ", 300) + ".",
	} {
		for _, o := range []Options{{Width: 20}, {Width: 80}, {Width: 200}, {Width: 500}, {}, {Wide: true}} {
			for _, code := range []string{"INTERNAL", "FAILED_PRECONDITION"} {
				r := scene()[0]
				r.Code, r.Message = code, message
				var got []string
				head, below, _ := strings.Cut(draw(o, r), "\n")
				for line := range strings.Lines(below) {
					got = append(got, strings.TrimPrefix(strings.TrimSuffix(line, "\n"), indent))
				}
				want := strings.TrimRight(strings.ReplaceAll(message, "\r\n", "\n"), "\n")
				have := strings.Join(got, "\n")
				if have != want && have != code+": "+want && !strings.HasSuffix(head, " "+want) {
					t.Errorf("%+v: message %.40q… became\n%s", o, message, have)
				}
			}
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0µs", 850 * time.Microsecond: "850µs", 999499: "999µs", 999600: "1.00ms",
		1234 * time.Microsecond: "1.23ms", 9996 * time.Microsecond: "10.0ms", 12345 * time.Microsecond: "12.3ms",
		123456 * time.Microsecond: "123ms", 999700 * time.Microsecond: "1.00s", 1234 * time.Millisecond: "1.23s",
		59940 * time.Millisecond: "59.9s", 59960 * time.Millisecond: "1m0s", 2 * time.Minute: "2m0s",
		59*time.Minute + 59*time.Second: "59m59s", 3599600 * time.Millisecond: "1h0m", 65 * time.Minute: "1h5m", 250 * time.Hour: "250h",
	} {
		if got := duration(d); got != want || displayWidth(got) > durationWidth {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 999: "999B", 1000: "1.0kB", 9949: "9.9kB", 9951: "10kB", 165432: "165kB", 999600: "1.0MB", 16 << 20: "17MB", 5e12: "5TB",
	} {
		if got := size(n); got != want || len(got) > 5 {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// Error details stand under the message, and are printable.
func TestDetails(t *testing.T) {
	got := draw(Options{Width: 120}, &call.Record{State: call.Done, Code: "ABORTED", Message: "busy", Details: []byte("[{\"@type\":\"google.rpc.RetryInfo\"}]")})
	if !strings.HasSuffix(got, " ABORTED\n             busy\n             details: [{\"@type\":\"google.rpc.RetryInfo\"}]\n") {
		t.Errorf("%q", got)
	}
}

func TestSubject(t *testing.T) {
	pod := call.Pod{Namespace: "shop", Name: "web-0"}
	for _, c := range []struct {
		call.Record
		want string
	}{
		{call.Record{}, "-"},
		{call.Record{Pod: pod}, "shop/web-0"},
		{call.Record{Pod: pod, Container: call.Container{Name: "nginx", ID: "4c01db0b339c6e6d"}}, "shop/web-0[nginx]"},
		{call.Record{Pod: pod, Container: call.Container{ID: "4c01db0b339c6e6d"}}, "shop/web-0[4c01db0b339c6]"},
		{call.Record{Pod: call.Pod{UID: "6f0c1c7e-8a1d-4a60"}}, "pod:6f0c1c7e-8a1d"},
		{call.Record{Container: call.Container{ID: "4c01db0b339c6e6d"}}, "4c01db0b339c6"},
		{call.Record{SandboxID: "e88d4f0aa1b2c3d4"}, "e88d4f0aa1b2c"},
		{call.Record{Volume: call.Volume{ID: "vol-1", Driver: "nfs.csi.k8s.io"}}, "vol-1 nfs.csi.k8s.io"},
		{call.Record{Volume: call.Volume{Driver: "nfs.csi.k8s.io"}}, "nfs.csi.k8s.io"},
		{call.Record{Volume: call.Volume{ID: "vol-1", PV: "pv-1"}, Pod: pod}, "shop/web-0 pv-1"},
		{call.Record{Service: "runtime.v1.ImageService", Image: "docker.io/library/nginx:1.27", Pod: pod}, "nginx:1.27 shop/web-0"},
		{call.Record{Image: "sha256:e4720093a3c1381245b53a5a51b417963b3c4472"}, "e4720093a3c1"},
		{call.Record{Subject: "GPU-1", Server: call.Server{Name: "nvidia"}}, "GPU-1"},
		{call.Record{Pod: pod, RequestMessages: 1, ResponseMessages: 250}, "shop/web-0 →1 ←250"},
		{call.Record{Pod: pod, RequestMessages: 1, ResponseMessages: 1}, "shop/web-0"},
	} {
		if got := subject(&c.Record).fit(46); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		for n := 16; n < 60; n++ {
			if got := subject(&c.Record).fit(n); displayWidth(got) > n {
				t.Errorf("%q is wider than %d", got, n)
			}
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		got, want string
	}{
		{cutEnd("abcdef", 6), "abcdef"},
		{cutEnd("abcdef", 4), "abc…"},
		{cutFront("abcdef", 4), "…def"},
		{cutMiddle("abcdef", 4), "a…ef"},
		{cutMiddle("商店街商店街", 8), "商…店街"},
		{cutEnd("e\u0301te\u0301s", 3), "e\u0301t…"},
		{cutFront("tte\u0301\u0301s", 3), "…e\u0301\u0301s"},
		{cutEnd("abc", 1), "…"},
		{cutEnd("abc", 0), ""},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain — größer, 注文, 👩\u200d🚀": "plain — größer, 注文, 👩\u200d🚀",
		"\x1b[31m\x07\x00\x7f":         `\x1b[31m\x07\x00\x7f`,
		"a\tb\nc\rd":                   `a\tb\nc\rd`,
		"\u009b2J \u202e \u2028":       `\u009b2J \u202e \u2028`,
		"\xff\xfe \uFFFD":              `\xff\xfe ` + "\uFFFD",
		"\U000e0041":                   `\U000e0041`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// Whatever is in a record, its line drives no terminal, is no wider than it
// should be, and what is under it can't be taken for a line of its own.
func FuzzLine(f *testing.F) {
	f.Add("INTERNAL", "RunPodSandbox", "web\x1b[2J", "a\nb\r\nc\td", "/bin/\u202ex", int64(1e6), 80)
	f.Add("", "", "", "10:15:02.123 kubelet→containerd", "", int64(-5), 0)
	f.Add("OK", "注文", "e\u0301", nfsMessage, "\xff", int64(1<<62), 133)
	f.Fuzz(func(t *testing.T, code, method, pod, message, exe string, n int64, width int) {
		width = min(max(width, 80), 400)
		r := &call.Record{Start: time.Unix(0, n), DurationMS: float64(n % 1e11), State: call.Done, Code: code,
			Service: "x." + pod, Method: method, Message: message, Image: pod, ResponseMessages: n,
			Pod: call.Pod{Name: pod}, Caller: call.Caller{Exe: exe}, Server: call.Server{Name: method}, Container: call.Container{ID: pod}}
		got := draw(Options{Width: width}, r)
		if !utf8.ValidString(got) || strings.ContainsFunc(strings.ReplaceAll(got, "\n", ""), hidden) {
			t.Errorf("%q is not printable", got)
		}
		for i, line := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
			if i == 0 && n >= 0 && displayWidth(line) > width {
				t.Errorf("width %d: %q", width, line)
			}
			if i > 0 && line != "" && !strings.HasPrefix(line, indent) {
				t.Errorf("%q is not indented", line)
			}
		}
	})
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	j := NewJSON(&b)
	r := scene()[4]
	r.Request = json.RawMessage(`{"a": "<b>"}`)
	r.Message += "\u009b\x7f\x1b"
	broken := *r
	broken.Request = json.RawMessage(`{"a`)
	j.Records([]*call.Record{r, &broken})
	if err := j.Err(); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(b.String(), "\n")
	if len(got) != 3 || !strings.Contains(got[0], `"request":{"a":"<b>"}`) {
		t.Fatalf("%q, want two lines", got)
	}
	if i := strings.IndexFunc(got[0], func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }); i >= 0 {
		t.Errorf("%q: a control character", got[0][i:])
	}
	var back call.Record
	if err := json.Unmarshal([]byte(got[0]), &back); err != nil {
		t.Fatal(err)
	}
	r.Request = json.RawMessage(`{"a":"<b>"}`)
	if !reflect.DeepEqual(&back, r) {
		t.Errorf("read back: %+v\nwant %+v", back, *r)
	}
	if back = (call.Record{}); json.Unmarshal([]byte(got[1]), &back) != nil || back.Request != nil || !back.Truncated {
		t.Errorf("%s: want the call without its broken payload", got[1])
	}
}

// writes notes how much was written each time.
type writes []int

func (w *writes) Write(p []byte) (int, error) {
	if p[len(p)-1] != '\n' {
		return 0, errors.New("no whole line")
	}
	*w = append(*w, len(p))
	return len(p), nil
}

// Many records are few writes of whole lines, and none waits for the next call.
func TestManyAtOnce(t *testing.T) {
	var many []*call.Record
	for range 100 {
		many = append(many, scene()...)
	}
	for name, print := range map[string]func(io.Writer, []*call.Record){
		"text": func(w io.Writer, all []*call.Record) { NewText(w, Options{}).Records(all) },
		"json": func(w io.Writer, all []*call.Record) { NewJSON(w).Records(all) },
	} {
		var all bytes.Buffer
		for _, r := range many {
			print(&all, []*call.Record{r})
		}
		var w writes
		print(&w, many)
		sum := 0
		for _, n := range w {
			sum += n
		}
		if sum != all.Len() || len(w) > sum/writeFrom+1 {
			t.Errorf("%s: %d bytes in writes of %v, want %d in few", name, sum, w, all.Len())
		}
	}
}

type failing struct{ writes int }

func (f *failing) Write([]byte) (int, error) { f.writes++; return 0, errors.New("gone") }

// A reader that has gone is not written to again.
func TestFailedWrite(t *testing.T) {
	type sink interface {
		Records([]*call.Record)
		Err() error
	}
	f, g := &failing{}, &failing{}
	for s, f := range map[sink]*failing{NewText(f, Options{}): f, NewJSON(g): g} {
		for _, r := range scene() {
			s.Records([]*call.Record{r})
		}
		if s.Err() == nil || f.writes != 1 {
			t.Errorf("%T: error %v after %d writes, want one write", s, s.Err(), f.writes)
		}
	}
}
