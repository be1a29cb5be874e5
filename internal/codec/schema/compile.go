package schema

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// table says what may be shown: a message's full name, and the fields of it
// that show, most important first. The order is that of the output, and what
// exceeds the budget is cut at the end: put what identifies the object first
// and long lists last.
//
// A map field names the keys that show, "labels[key key]"; only anyKey shows
// them all. A nested message shows by its own entry, wherever it is used, and
// must have one. There is no wildcard for fields, on purpose: a field that a new
// release of an API adds stays hidden until somebody has looked at it.
type table map[protoreflect.FullName][]string

// anyKey lets every key of a map show.
const anyKey = "[*]"

// A message lists at most maxFields fields and a field at most maxKeys keys, so
// that rendering keeps its books on the stack. Of a map with anyKey, the first
// maxKeys keys show.
const (
	maxFields = 24
	maxKeys   = 16
)

// message is the plan by which one message type renders.
type message struct {
	fields []field // in table order
	index  []int8  // field number → position in fields, or -1
}

// field is one listed field.
type field struct {
	number  protowire.Number
	wire    protowire.Type // of one element
	kind    protoreflect.Kind
	label   string // the JSON key, with quotes and colon
	list    bool
	isMap   bool
	keys    [][]byte // of a map: those that show; nil for any
	enum    map[int32]string
	message *message
}

// at is the position of a field number among those listed, or -1.
func (m *message) at(n protowire.Number) int {
	if int(n) < len(m.index) {
		return int(m.index[n])
	}
	return -1
}

// compiler turns tables into plans, once for each message.
type compiler struct {
	*registry
	shown map[protoreflect.FullName][]string
}

func compile(files []protoreflect.FileDescriptor, tables []table, abouts []about) *registry {
	c := compiler{
		registry: &registry{
			methods:  map[methodName]*Method{},
			messages: map[protoreflect.MessageDescriptor]*message{},
		},
		shown: map[protoreflect.FullName][]string{},
	}
	for _, t := range tables {
		maps.Copy(c.shown, t)
	}
	all := about{}
	for _, a := range abouts {
		maps.Copy(all, a)
	}
	for _, file := range files {
		for i := range file.Services().Len() {
			c.service(file.Services().Get(i), all)
		}
	}
	for name := range all {
		c.problem("%s: no such method", name)
	}
	used := map[protoreflect.FullName]bool{}
	for d := range c.messages {
		used[d.FullName()] = true
	}
	for name := range c.shown {
		if !used[name] {
			c.problem("%s: no method's messages hold it in a listed field", name)
		}
	}
	return c.registry
}

func (c *compiler) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

// service takes in a service's methods, and takes their facts out of all.
func (c *compiler) service(s protoreflect.ServiceDescriptor, all about) {
	for i := range s.Methods().Len() {
		d := s.Methods().Get(i)
		m := &Method{
			Service: string(s.FullName()), Name: string(d.Name()),
			Request: d.Input(), Response: d.Output(),
			ServerStreaming: d.IsStreamingServer(),
		}
		c.message(m.Request)
		c.message(m.Response)
		path := m.Service + "/" + m.Name
		if err := m.resolve(all[path]); err != nil {
			c.problem("%s: %w", path, err)
		}
		delete(all, path)
		c.methods[methodName{m.Service, m.Name}] = m
		c.order = append(c.order, m)
	}
}

// message gives the plan of a message, making it if need be; a message that no
// table names has none.
func (c *compiler) message(d protoreflect.MessageDescriptor) *message {
	names, ok := c.shown[d.FullName()]
	if !ok {
		return nil
	}
	if m := c.messages[d]; m != nil {
		return m
	}
	m := &message{}
	c.messages[d] = m // before its fields: a message may hold itself
	for _, name := range names {
		f, err := c.field(d, name)
		if err == nil && len(m.fields) == maxFields {
			err = fmt.Errorf("more than %d fields", maxFields)
		}
		if err != nil {
			c.problem("%s.%s: %w", d.FullName(), name, err)
			continue
		}
		for len(m.index) <= int(f.number) {
			m.index = append(m.index, -1)
		}
		m.index[f.number] = int8(len(m.fields))
		m.fields = append(m.fields, f)
	}
	return m
}

// field compiles one entry of a table: a field's name, for a map with its keys.
func (c *compiler) field(d protoreflect.MessageDescriptor, entry string) (field, error) {
	name, keys, hasKeys := cutKeys(entry)
	fd := d.Fields().ByName(protoreflect.Name(name))
	switch {
	case fd == nil:
		return field{}, fmt.Errorf("no such field")
	case secret(fd):
		return field{}, fmt.Errorf("the API marks it as secret")
	case hasKeys != fd.IsMap():
		return field{}, fmt.Errorf("a map, and only a map, names the keys that show")
	}
	f := field{
		number: fd.Number(), kind: fd.Kind(), wire: wireType(fd.Kind()), label: strconv.Quote(name) + ":",
		list: fd.IsList(), isMap: fd.IsMap(),
	}
	switch {
	case fd.IsMap():
		return f, f.compileKeys(fd, keys)
	case fd.Kind() == protoreflect.GroupKind:
		return field{}, fmt.Errorf("groups are not rendered")
	case fd.Kind() == protoreflect.EnumKind:
		f.enum = enumNames(fd.Enum())
	case fd.Kind() == protoreflect.MessageKind:
		if f.message = c.message(fd.Message()); f.message == nil {
			return field{}, fmt.Errorf("%s has no entry of its own", fd.Message().FullName())
		}
	}
	return f, nil
}

func (f *field) compileKeys(fd protoreflect.FieldDescriptor, keys string) error {
	if fd.MapKey().Kind() != protoreflect.StringKind || fd.MapValue().Kind() != protoreflect.StringKind {
		return fmt.Errorf("only maps of string to string are rendered")
	}
	if keys != "*" {
		f.keys = bytes.Fields([]byte(keys))
	}
	if len(f.keys) > maxKeys {
		return fmt.Errorf("more than %d keys", maxKeys)
	}
	return nil
}

// cutKeys splits "labels[key key]" into "labels" and "key key".
func cutKeys(s string) (name, keys string, ok bool) {
	name, rest, ok := strings.Cut(s, "[")
	return name, strings.TrimSuffix(rest, "]"), ok
}

// secret: the API itself says that the field must not be shown. The tables are
// ours and could be wrong; this is the API's own word, and it wins.
func secret(fd protoreflect.FieldDescriptor) bool {
	options, ok := fd.Options().(*descriptorpb.FieldOptions)
	return ok && (options.GetDebugRedact() || proto.GetExtension(options, csi.E_CsiSecret).(bool))
}

func enumNames(e protoreflect.EnumDescriptor) map[int32]string {
	names := map[int32]string{}
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		if n := int32(v.Number()); names[n] == "" { // an alias does not rename
			names[n] = strconv.Quote(string(v.Name()))
		}
	}
	return names
}

// lengthKinds are the kinds that a length precedes; none of them is ever packed.
var lengthKinds = []protoreflect.Kind{protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind}

func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	}
	if slices.Contains(lengthKinds, k) {
		return protowire.BytesType
	}
	return protowire.VarintType
}

// accepts: the field, or as a list a packed run of it, is encoded like this.
// What is encoded otherwise is not the field, as protobuf's parsers have it too.
func (f *field) accepts(t protowire.Type) bool {
	return t == f.wire || f.list && t == protowire.BytesType
}
