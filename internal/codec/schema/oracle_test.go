package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// oracle says by reflection, from a message that protobuf-go has parsed and from
// the tables as written, what Render must give. It shares no code with it.
type oracle struct {
	api  api
	full bool // what Full shows
}

func (o oracle) object(m protoreflect.Message) map[string]any {
	out := map[string]any{}
	fields := listed(o.api, m.Descriptor())
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		entry, ok := fields[fd.Name()]
		switch {
		case !ok && (!o.full || o.withheld(fd)):
			out[string(fd.Name())] = mark(fd, v)
		case fd.IsMap():
			out[string(fd.Name())] = o.mapping(fd, v.Map(), entry[1])
		case fd.IsList():
			list := []any{}
			for i := range v.List().Len() {
				list = append(list, o.value(fd, v.List().Get(i)))
			}
			out[string(fd.Name())] = list
		default:
			out[string(fd.Name())] = o.value(fd, v)
		}
		return true
	})
	return out
}

// withheld: the API marks the field, or our table names it as one for nobody.
func (o oracle) withheld(fd protoreflect.FieldDescriptor) bool {
	// 1059 is CSI's csi_secret, wire type varint: tag 0x98 0x42.
	raw := string(marshalOptions(fd))
	return fd.Options().(*descriptorpb.FieldOptions).GetDebugRedact() || strings.Contains(raw, "\x98\x42\x01") ||
		slices.Contains(o.api.never, fd.FullName())
}

func marshalOptions(fd protoreflect.FieldDescriptor) []byte {
	raw, _ := proto.Marshal(fd.Options())
	return raw
}

func (o oracle) mapping(fd protoreflect.FieldDescriptor, m protoreflect.Map, keys string) map[string]any {
	entries, left := map[string]any{}, 0
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		isListed := slices.Contains(strings.Fields(keys), k.String())
		isToken := strings.Contains(k.String(), "serviceAccount.tokens")
		switch {
		case isToken && (o.full || keys == "*"), !o.full && !isListed && keys == "*" && strings.Contains(k.String(), "password"):
			entries[k.String()] = mark(fd.MapValue(), v)
		case o.full || isListed || keys == "*":
			entries[k.String()] = o.value(fd.MapValue(), v)
		default:
			left++
		}
		return true
	})
	if left > 0 {
		entries["…"] = fmt.Sprintf("‹%d more›", left)
	}
	return entries
}

func (o oracle) value(fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return o.object(v.Message())
	case protoreflect.EnumKind:
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			return string(d.Name())
		}
		return json.Number(fmt.Sprint(v.Enum()))
	case protoreflect.BytesKind:
		return string(v.Bytes())
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

// mark tells a value by its type and length.
func mark(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	plural := func(n int, one, many string) string {
		if n == 1 {
			many = one
		}
		return fmt.Sprintf("%d %s", n, many)
	}
	s := fd.Kind().String()
	switch {
	case fd.IsMap():
		s = plural(v.Map().Len(), "key", "keys")
	case fd.IsList():
		s = plural(v.List().Len(), "entry", "entries")
	case fd.Kind() == protoreflect.MessageKind:
		s = string(fd.Message().Name()) + ", " + plural(proto.Size(v.Message().Interface()), "byte", "bytes")
	case fd.Kind() == protoreflect.StringKind:
		s += ", " + plural(len(v.String()), "byte", "bytes")
	case fd.Kind() == protoreflect.BytesKind:
		s = plural(len(v.Bytes()), "byte", "bytes")
	case fd.Kind() == protoreflect.EnumKind:
		s = string(fd.Enum().Name())
	}
	return "‹" + s + "›"
}

// comparable leaves of an object what two readings of any bytes must agree on:
// not the marks, which tell lengths as sent, nor zeros that were sent although a
// zero is not, members of oneofs, of which a parser keeps the last, free text,
// which is scrubbed, and bytes that are no text.
func (o oracle) comparable(d protoreflect.MessageDescriptor, out map[string]any) map[string]any {
	for name, v := range out {
		fd := d.Fields().ByName(protoreflect.Name(name))
		if fd == nil || listed(o.api, d)[fd.Name()] == [2]string{} || listed(o.api, d)[fd.Name()][0] == "text" || fd.Kind() == protoreflect.BytesKind {
			delete(out, name)
			continue
		}
		switch v := v.(type) {
		case map[string]any:
			switch {
			case fd.IsMap() && fd.MapValue().Message() != nil:
				for _, entry := range v {
					if m, ok := entry.(map[string]any); ok {
						o.comparable(fd.MapValue().Message(), m)
					}
				}
			case fd.IsMap():
				for key, entry := range v {
					if s, _ := entry.(string); strings.HasPrefix(s, "‹") || !utf8.ValidString(key) {
						delete(v, key)
					}
				}
			default:
				o.comparable(fd.Message(), v)
			}
		case []any:
			for _, entry := range v {
				if m, ok := entry.(map[string]any); ok {
					o.comparable(fd.Message(), m)
				}
			}
			continue
		}
		zero := v == "" || v == false || v == json.Number("0") || v == json.Number("-0")
		if e := fd.Enum(); e != nil {
			zero = v == string(e.Values().ByNumber(0).Name())
		}
		empty, isMap := v.(map[string]any)
		if zero || fd.ContainingOneof() != nil || isMap && len(empty) == 0 {
			delete(out, name)
		}
	}
	return out
}
