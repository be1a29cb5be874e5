package schema

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// The oracle says by reflection, from a message that protobuf-go has parsed and
// from the tables as written, what Render must give. It shares no code with it.

// shownFields gives the fields of a message that the tables list, and of maps
// the keys ("*" for any).
func shownFields(d protoreflect.MessageDescriptor) map[protoreflect.FieldDescriptor]string {
	fields := map[protoreflect.FieldDescriptor]string{}
	for _, t := range []table{criShown, csiShown} {
		for _, entry := range t[d.FullName()] {
			name, keys, _ := strings.Cut(strings.TrimSuffix(entry, "]"), "[")
			fields[d.Fields().ByName(protoreflect.Name(name))] = keys
		}
	}
	return fields
}

func oracle(m protoreflect.Message) map[string]any {
	out := map[string]any{}
	for fd, keys := range shownFields(m.Descriptor()) {
		if !m.Has(fd) {
			continue
		}
		switch v := m.Get(fd); {
		case fd.IsMap():
			entries := map[string]any{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if keys == "*" || slices.Contains(strings.Fields(keys), k.String()) {
					entries[k.String()] = v.String()
				}
				return true
			})
			if len(entries) > 0 {
				out[string(fd.Name())] = entries
			}
		case fd.IsList():
			list := []any{}
			for i := range v.List().Len() {
				list = append(list, oracleValue(fd, v.List().Get(i)))
			}
			out[string(fd.Name())] = list
		default:
			out[string(fd.Name())] = oracleValue(fd, v)
		}
	}
	return out
}

func oracleValue(fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return oracle(v.Message())
	case protoreflect.EnumKind:
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			return string(d.Name())
		}
		return json.Number(fmt.Sprint(v.Enum()))
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case protoreflect.StringKind, protoreflect.BoolKind:
		return v.Interface()
	case protoreflect.DoubleKind:
		if s := strconv.FormatFloat(v.Float(), 'g', -1, 64); strings.Trim(s, "+-0123456789.e") == "" {
			return json.Number(s)
		}
		return strings.NewReplacer("+", "", "Inf", "Infinity").Replace(fmt.Sprint(v.Float()))
	}
	return json.Number(fmt.Sprint(v.Interface()))
}

// withoutZeros takes out of a rendered object what a parser cannot tell: zeros
// that were sent although a zero is not sent, and the members of oneofs, of
// which a parser keeps the last.
func withoutZeros(d protoreflect.MessageDescriptor, out map[string]any) map[string]any {
	for name, v := range out {
		fd := d.Fields().ByName(protoreflect.Name(name))
		switch v := v.(type) {
		case map[string]any:
			if !fd.IsMap() {
				withoutZeros(fd.Message(), v)
			}
		case []any:
			for _, entry := range v {
				if m, ok := entry.(map[string]any); ok {
					withoutZeros(fd.Message(), m)
				}
			}
			continue
		}
		zero := v == "" || v == false || v == json.Number("0") || v == json.Number("-0")
		if e := fd.Enum(); e != nil {
			zero = v == string(e.Values().ByNumber(0).Name())
		}
		if zero || fd.ContainingOneof() != nil {
			delete(out, name)
		}
	}
	return out
}

// parsed decodes JSON without losing digits, and fails the test where it is none.
func parsed(t testing.TB, out []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(out)))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil || !json.Valid(out) {
		t.Fatalf("no JSON object: %v\n%s", err, out)
	}
	return v
}

// strangeKeys are put into every map besides those that may show.
var strangeKeys = []string{"app", "csi.storage.k8s.io/serviceAccount.tokens", "password"}

// canary is the value of every string in a filled message: where it is.
func canary(fd protoreflect.FieldDescriptor, key string) string {
	return "canary:" + string(fd.FullName()) + "[" + key + "]"
}

// filled makes a message with every field set, two entries in every list, every
// key that may show and some that may not in every map.
func filled(d protoreflect.MessageDescriptor) proto.Message {
	m := dynamicpb.NewMessage(d)
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		switch {
		case fd.IsMap():
			for _, key := range slices.Concat(strings.Fields(shownFields(d)[fd]), strangeKeys) {
				m.Mutable(fd).Map().Set(protoreflect.ValueOfString(key).MapKey(), protoreflect.ValueOfString(canary(fd, key)))
			}
		case fd.IsList():
			for range 2 {
				m.Mutable(fd).List().Append(filledValue(fd))
			}
		default:
			m.Set(fd, filledValue(fd))
		}
	}
	return m
}

func filledValue(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage(filled(fd.Message()).ProtoReflect())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(canary(fd, ""))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(canary(fd, "")))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(fd.Enum().Values().Get(fd.Enum().Values().Len() - 1).Number())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(12.75)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(-7)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(-1 << 62)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(1 << 31)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1 << 63)
	}
	panic("a kind that no API used so far: " + fd.Kind().String())
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// payloads are the request and response types of all methods, each once.
func payloads() (all []protoreflect.MessageDescriptor) {
	seen := map[protoreflect.MessageDescriptor]bool{}
	for m := range Methods() {
		for _, d := range []protoreflect.MessageDescriptor{m.Request, m.Response} {
			if !seen[d] {
				seen[d] = true
				all = append(all, d)
			}
		}
	}
	return all
}
