package schema

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// payload is a message that may come over a wire: its descriptor, its plan, and
// the API whose table says what shows of it.
type payload struct {
	api  api
	d    protoreflect.MessageDescriptor
	plan *Message
}

// payloads are the request and response types of all methods, and the error
// details, each once.
var payloads = sync.OnceValue(func() (all []payload) {
	for _, a := range tables() {
		files, err := a.files()
		if err != nil {
			panic(err)
		}
		c := compileAPI(a)
		seen := map[protoreflect.FullName]bool{}
		add := func(d protoreflect.MessageDescriptor) {
			if !seen[d.FullName()] {
				seen[d.FullName()] = true
				all = append(all, payload{a, d, c.messages[d.FullName()]})
			}
		}
		for _, name := range a.services {
			d, err := files.FindDescriptorByName(protoreflect.FullName(name))
			if err != nil {
				panic(err)
			}
			for methods, i := d.(protoreflect.ServiceDescriptor).Methods(), 0; i < methods.Len(); i++ {
				add(methods.Get(i).Input())
				add(methods.Get(i).Output())
			}
		}
		if len(a.services) == 0 {
			for name := range a.shown {
				d, err := files.FindDescriptorByName(name)
				if err != nil {
					panic(err)
				}
				add(d.(protoreflect.MessageDescriptor))
			}
		}
	}
	return all
})

// reachable are all messages that these can hold.
var reachable = sync.OnceValue(func() (all []payload) {
	seen := map[string]bool{}
	var visit func(p payload)
	visit = func(p payload) {
		id := p.api.name + " " + string(p.d.FullName())
		if seen[id] {
			return
		}
		seen[id] = true
		all = append(all, p)
		for i := range p.d.Fields().Len() {
			fd := p.d.Fields().Get(i)
			held := fd.Message()
			if fd.IsMap() {
				held = fd.MapValue().Message()
			}
			if held != nil {
				visit(payload{p.api, held, nil})
			}
		}
	}
	for _, p := range payloads() {
		visit(p)
	}
	return all
})

// message finds one by its name; of several APIs' with that name, the first's.
func message(t testing.TB, name protoreflect.FullName) payload {
	t.Helper()
	for _, p := range reachable() {
		if p.d.FullName() == name {
			p.plan = compileAPI(p.api).messages[name]
			return p
		}
	}
	t.Fatalf("no message %s", name)
	return payload{}
}

// listed is what a table says of a message's fields, read from the table as it is
// written: verdict ("show", "text"), and of maps the keys ("*" for any).
func listed(a api, d protoreflect.MessageDescriptor) map[protoreflect.Name][2]string {
	fields := map[protoreflect.Name][2]string{}
	for _, entry := range a.shown[d.FullName()] {
		verdict := "show"
		if rest, ok := strings.CutSuffix(entry, " (text)"); ok {
			entry, verdict = rest, "text"
		}
		name, keys, _ := strings.Cut(strings.TrimSuffix(entry, "]"), "[")
		fields[protoreflect.Name(name)] = [2]string{verdict, keys}
	}
	return fields
}

// strangeKeys are put into every map besides those that may show.
var strangeKeys = []string{"app", "csi.storage.k8s.io/serviceAccount.tokens", "password"}

// canary is the value of every string in a filled message: where it is.
func canary(fd protoreflect.FieldDescriptor, key string) string {
	return "canary/" + string(fd.FullName()) + "~" + strings.ReplaceAll(key, "/", "~") + "~"
}

// filled makes a message with every field set, two entries in every list, every
// key that may show and some that may not in every map. Depth bounds messages
// that hold themselves.
func filled(a api, d protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	m := dynamicpb.NewMessage(d)
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		if depth == 0 && fd.Kind() == protoreflect.MessageKind && !fd.IsMap() {
			continue
		}
		switch {
		case fd.IsMap() && fd.MapKey().Kind() == protoreflect.StringKind:
			for _, key := range slices.Concat(strings.Fields(strings.Trim(listed(a, d)[fd.Name()][1], "*")), strangeKeys) {
				m.Mutable(fd).Map().Set(protoreflect.ValueOfString(key).MapKey(), filledValue(a, fd.MapValue(), canary(fd, key), depth))
			}
		case fd.IsMap():
			panic("a kind of key that no API used so far")
		case fd.IsList():
			for range 2 {
				m.Mutable(fd).List().Append(filledValue(a, fd, canary(fd, ""), depth))
			}
		default:
			m.Set(fd, filledValue(a, fd, canary(fd, ""), depth))
		}
	}
	return m
}

// deep is enough for every message that does not hold itself.
const deep = 7

func filledValue(a api, fd protoreflect.FieldDescriptor, text string, depth int) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage(filled(a, fd.Message(), depth-1))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text))
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
	must(t, err)
	return wire
}

// parsed is a rendered object, its numbers as they were written.
func parsed(t testing.TB, out []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(out)))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil || v == nil || !json.Valid(out) {
		t.Fatalf("no JSON object: %v\n%s", err, out)
	}
	return v
}
