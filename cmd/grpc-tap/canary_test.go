package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// TestNoSecretLeaves is the law of this program: a canary in every string and
// bytes field, map key and map value, and metadata value, of every method of
// every API that is known, both directions, and in credentials' forms within
// every text that is told. All of it goes over a socket that a real grpc-tap
// serves, and everything that leaves that process is searched: lines, JSON, OTLP
// spans, metrics, logs. A canary may be there only where `grpc-tap version --schema` says
// that its field shows, and never where the secret corpus says that it must not.
func TestNoSecretLeaves(t *testing.T) {
	list, secrets := readVerdicts(t), readSecrets(t)
	for _, run := range []struct {
		name string
		full bool
		args []string
	}{
		{"json", false, []string{"-o", "json"}},
		{"text", false, []string{"-o", "text"}},
		{"wide", false, []string{"-o", "wide"}},
		{"full", true, []string{"-o", "json", "--payload", "full"}},
		{"no messages", false, []string{"-o", "json", "--messages", "none"}},
	} {
		t.Run(run.name, func(t *testing.T) {
			h := &hutch{formed: map[string]bool{}}
			out := everyCall(t, h, append(run.args, "--payload-bytes", "1048576", "--log-level", "debug"))
			shown := map[int]bool{}
			for where, b := range out {
				for _, at := range canaryWords.FindAllSubmatchIndex(b, -1) {
					// What follows may begin with a digit: protobuf's tags do.
					digits := b[at[2]:min(at[3], at[2]+birdDigits)]
					n, err := strconv.Atoi(string(digits))
					if err != nil || n >= len(h.birds) || len(digits) < birdDigits {
						t.Errorf("%s: a canary in parts: …%s…", where, around(b, at))
						continue
					}
					shown[n] = true
					if why := h.birds[n].mustNotShow(list, secrets, run.full); why != "" {
						t.Errorf("%s: %s shows: %s\n…%s…", where, h.birds[n], why, around(b, at))
					}
					if run.name == "no messages" && (h.birds[n].metadata || list[h.birds[n].id()].verdict == "text") {
						t.Errorf("%s: %s is free text: …%s…", where, h.birds[n], around(b, at))
					}
				}
				for _, form := range encodings("canary") {
					if i := bytes.Index(b, []byte(form)); i >= 0 {
						t.Errorf("%s: an encoded canary: …%s…", where, around(b, []int{i, i + len(form)}))
					}
				}
			}
			h.checkSeen(t, shown, list, run.name)
		})
	}
}

// checkSeen: the canaries that may show are there, or the search proves nothing.
func (h *hutch) checkSeen(t *testing.T, shown map[int]bool, list map[string]listedAs, run string) {
	if run == "text" || run == "wide" || run == "no messages" {
		return // lines tell few fields
	}
	may, seen := 0, 0
	for i, b := range h.birds {
		if v := list[b.id()]; v.verdict == "show" && b.key == "" && !b.credential {
			may++
			if shown[i] {
				seen++
			}
		}
	}
	if seen < 500 || seen*10 < may*4 { // many are below fields that do not show
		t.Errorf("only %d of the %d canaries that may show were seen: were the calls?", seen, may)
	}
	t.Logf("%d canaries, of which %d may show by their own field's verdict and %d were seen", len(h.birds), may, seen)
}

// listedAs is what the list says of a field.
type listedAs struct {
	verdict string
	keys    []string
}

// readVerdicts reads the auditor's list: "api message.field" → verdict.
func readVerdicts(t *testing.T) map[string]listedAs {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"version", "--schema"}, &out, os.Stderr); code != 0 {
		t.Fatalf("version --schema: exit code %d", code)
	}
	list, api := map[string]listedAs{}, ""
	line := regexp.MustCompile(`^([\w.]+)(?:\[(.*)\])? (show|text|name|never)$`)
	for s := bufio.NewScanner(&out); s.Scan(); {
		if name, ok := strings.CutPrefix(s.Text(), "# "); ok && strings.Contains(name, ", of ") {
			api, _, _ = strings.Cut(name, ",")
		}
		if m := line.FindStringSubmatch(s.Text()); m != nil {
			list[api+" "+m[1]] = listedAs{m[3], strings.Fields(m[2])}
		}
	}
	if len(list) < 1000 {
		t.Fatalf("the list has only %d fields", len(list))
	}
	return list
}

func readSecrets(t *testing.T) (names []string) {
	b, err := os.ReadFile("../../internal/codec/schema/testdata/secrets.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			names = append(names, line)
		}
	}
	return names
}

// bird is a canary: where it was put.
type bird struct {
	api        string
	field      string // full name
	key        string // of a map: the key that it is the value of
	isKey      bool   // it is a map's key
	credential bool   // it stands in a credential's form
	metadata   bool   // it is in metadata, or in a status
	marked     bool   // its field is one that the API marks as secret
}

func (b bird) String() string { return strings.TrimSpace(b.field + " " + b.key) }
func (b bird) id() string     { return b.api + " " + b.field }

// mustNotShow says why a canary may not be told, "" if it may.
func (b bird) mustNotShow(list map[string]listedAs, secrets []string, full bool) string {
	v := list[b.id()]
	isSecret := slices.ContainsFunc(secrets, func(s string) bool {
		return s == b.field || s == b.field+" never" || strings.HasSuffix(s, ".") && strings.HasPrefix(b.field, s)
	})
	switch {
	case b.metadata:
		return "metadata and credentials are not told"
	case b.credential && (!full || v.verdict == "text"):
		return "it is a credential"
	case v.verdict == "" || v.verdict == "never":
		return "nobody is to see it"
	case b.marked:
		return "its API marks it as secret"
	case slices.Contains(secrets, b.field+" never"):
		return "the secret corpus says that nobody is to see it"
	case strings.Contains(b.key, "serviceAccount.tokens"):
		return "it is a token"
	case full:
		return ""
	case isSecret:
		return "the secret corpus has it"
	case v.verdict == "name":
		return "its field is not on the list"
	case b.isKey && !slices.Contains(v.keys, "*"), b.key != "" && !slices.Contains(v.keys, "*") && !slices.Contains(v.keys, b.key):
		return "its key is not on the list"
	case b.key == "password":
		return "its key says that it is a credential"
	}
	return ""
}

// hutch makes canaries, and knows where each was put.
type hutch struct {
	birds  []bird
	formed map[string]bool // fields that had credentials in every form
}

const birdDigits = 6

var canaryWords = regexp.MustCompile(`canary([0-9]*)`)

func (h *hutch) word(b bird) string {
	h.birds = append(h.birds, b)
	return fmt.Sprintf("canary%0*d", birdDigits, len(h.birds)-1)
}

// text is one canary in the open and one in each form of a credential.
func (h *hutch) text(b bird) string {
	open := h.word(b)
	b.credential = true
	parts := []string{open}
	for _, form := range []string{
		"password=%s", "password: %s", "\"token\": \"%sA\"", "https://user:%s@host/path", "Bearer %sX.y", "eyJhbGciOiJIUzI1NiJ9.eyJ4IjoxfQ.%s",
		"-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----", "--password %s", "secretAccessKey:%s", "sig=%s&x=1",
		"Authorization: Basic %sQ==", "pass=%s,vers=3",
	} {
		parts = append(parts, fmt.Sprintf(form, h.word(b)))
	}
	return strings.Join(parts, " and\n")
}

// fill sets every field of a message, with two entries in every list.
func (h *hutch) fill(api string, list map[string]listedAs, d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		b := bird{api: api, field: string(fd.FullName()), marked: isMarked(fd)}
		switch {
		case fd.IsMap():
			for _, key := range slices.Concat(list[b.id()].keys, []string{"app", "password", "csi.storage.k8s.io/serviceAccount.tokens"}) {
				if b.key = key; key != "*" {
					m.Mutable(fd).Map().Set(protoreflect.ValueOfString(key).MapKey(), h.value(b, list, fd.MapValue(), depth))
				}
			}
			key := h.word(bird{api: api, field: b.field, isKey: true})
			b.key = key
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString(key).MapKey(), h.value(b, list, fd.MapValue(), depth))
		case depth == 0 && fd.Kind() == protoreflect.MessageKind:
		case fd.IsList():
			for to := m.Mutable(fd).List(); to.Len() < 2; {
				if fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.BytesKind || fd.Kind() == protoreflect.MessageKind {
					to.Append(h.value(b, list, fd, depth))
				} else {
					to.Append(to.NewElement())
				}
			}
		default:
			m.Set(fd, h.value(b, list, fd, depth))
		}
	}
	return m
}

// isMarked: by debug_redact, or by CSI's option 1059.
func isMarked(fd protoreflect.FieldDescriptor) bool {
	options, _ := proto.Marshal(fd.Options())
	return fd.Options().(*descriptorpb.FieldOptions).GetDebugRedact() || bytes.Contains(options, []byte("\x98\x42\x01"))
}

func (h *hutch) value(b bird, list map[string]listedAs, fd protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage(h.fill(b.api, list, fd.Message(), depth-1))
	case protoreflect.StringKind:
		if v := list[b.id()]; v.verdict == "text" && b.key == "" && !h.formed[b.id()] {
			h.formed[b.id()] = true // once is enough, and to scrub takes time
			return protoreflect.ValueOfString(h.text(b))
		}
		return protoreflect.ValueOfString(h.word(b))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(h.word(b)))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(fd.Enum().Values().Get(fd.Enum().Values().Len() - 1).Number())
	}
	return fd.Default() // numbers and bools: zero
}

// encodings are the forms in which bytes could leave unseen: base64 at any
// alignment, hexadecimal.
func encodings(s string) []string {
	all := []string{hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s)))}
	for shift := range 3 {
		b := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + s))
		all = append(all, b[(shift*8+5)/6:len(b)-1])
	}
	return all
}

// around is what stands around a find, for a person.
func around(b []byte, at []int) string {
	return strings.ToValidUTF8(string(b[max(0, at[0]-80):min(len(b), at[1]+40)]), "?")
}
