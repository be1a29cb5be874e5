package schema

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// maxKeys is how many keys of a map a table may list, so that rendering keeps
// its books on the stack. Of a map with anyKey, the first maxKeys keys show.
const maxKeys = 16

// Message is the plan by which one message type renders. The zero value is of
// messages that nobody knows: of these, field numbers and wire types show.
type Message struct {
	name   protoreflect.FullName
	fields []field // in the order of the output
	index  []int32 // field number → position in fields, or -1
	// sparse holds what index would be too large for.
	sparse map[protowire.Number]int
}

// field is one field of a plan.
type field struct {
	number  protowire.Number
	wire    protowire.Type // of one element
	kind    protoreflect.Kind
	label   string // the JSON key, with quotes and colon
	typ     string // "string", "AuthConfig"
	verdict verdict
	list    bool
	message *Message
	enum    map[int32]string

	isMap  bool
	anyKey bool
	keys   []string // those that show
	key    *field   // of a map: the key's and the value's kind
	value  *field
}

// at is the position of a field number among those known, or -1.
func (m *Message) at(n protowire.Number) int {
	if int(n) < len(m.index) {
		return int(m.index[n])
	}
	if i, ok := m.sparse[n]; ok {
		return i
	}
	return -1
}

// compiled is an API, ready for Lookup and Render.
type compiled struct {
	methods  map[methodName]*Method
	order    []*Method
	messages map[protoreflect.FullName]*Message
	// problems are the mistakes in its tables. A field that has one does not
	// show; a test fails for each.
	problems []error
}

// compiler turns a table into plans, once for each message.
type compiler struct {
	*compiled
	api
}

func compile(files *protoregistry.Files, a api) *compiled {
	c := compiler{api: a, compiled: &compiled{methods: map[methodName]*Method{}, messages: map[protoreflect.FullName]*Message{}}}
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			c.service(f.Services().Get(i))
		}
		if len(a.services) == 0 { // error details: messages that no method names
			c.file(f)
		}
		return true
	})
	slices.SortStableFunc(c.order, func(a, b *Method) int {
		return cmp.Compare(slices.Index(c.services, a.Service), slices.Index(c.services, b.Service))
	})
	for _, name := range slices.AppendSeq(slices.Collect(maps.Keys(c.about)), maps.Keys(c.listings)) {
		if !slices.ContainsFunc(c.order, func(m *Method) bool { return m.Service+"/"+m.Name == name }) {
			c.problem("%s: no such method", name)
		}
	}
	for name := range c.shown {
		if c.messages[name] == nil {
			c.problem("%s: no method's messages hold it", name)
		}
	}
	for _, name := range c.never {
		m := c.messages[name.Parent()]
		if m == nil || !slices.ContainsFunc(m.fields, func(f field) bool { return f.verdict == never && f.label == label(name.Name()) }) {
			c.problem("%s: no such field", name)
		}
	}
	return c.compiled
}

func (c *compiler) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

// service takes in a service's methods.
func (c *compiler) service(s protoreflect.ServiceDescriptor) {
	for i := range s.Methods().Len() {
		d := s.Methods().Get(i)
		m := &Method{
			Service: string(s.FullName()), Name: string(d.Name()),
			Request: c.message(d.Input()), Response: c.message(d.Output()),
			ClientStreaming: d.IsStreamingClient(), ServerStreaming: d.IsStreamingServer(),
		}
		path := m.Service + "/" + m.Name
		m.exitCode = path == execSync
		if err := m.resolve(c.about[path], d); err != nil {
			c.problem("%s: %w", path, err)
		}
		if err := m.resolveLists(c.listings[path], d.Output()); err != nil {
			c.problem("%s: %w", path, err)
		}
		c.methods[methodName{m.Service, m.Name}] = m
		c.order = append(c.order, m)
	}
}

func (c *compiler) file(f protoreflect.FileDescriptor) {
	for i := range f.Messages().Len() {
		c.message(f.Messages().Get(i))
	}
}

// message gives the plan of a message, making it if need be.
func (c *compiler) message(d protoreflect.MessageDescriptor) *Message {
	if m := c.messages[d.FullName()]; m != nil {
		return m
	}
	m := &Message{name: d.FullName()}
	c.messages[m.name] = m // before its fields: a message may hold itself
	done := map[protoreflect.Name]bool{}
	for _, s := range c.shown[m.name] {
		e := parseEntry(s)
		fd := d.Fields().ByName(e.name)
		if fd == nil || done[e.name] {
			c.problem("%s.%s: no such field, or listed twice", m.name, s)
			continue
		}
		if err := c.allowed(fd, e); err != nil {
			c.problem("%s.%s: %w", m.name, s, err)
			continue
		}
		done[e.name] = true
		m.fields = append(m.fields, c.field(fd, e))
	}
	c.unlisted(m, d, done)
	for i := range m.fields {
		m.put(m.fields[i].number, i)
	}
	return m
}

// unlisted adds what the table doesn't list: before the first list or map, for
// those are what is cut.
func (c *compiler) unlisted(m *Message, d protoreflect.MessageDescriptor, done map[protoreflect.Name]bool) {
	at := slices.IndexFunc(m.fields, func(f field) bool { return f.list || f.isMap })
	if at < 0 {
		at = len(m.fields)
	}
	var rest []field
	for i := range d.Fields().Len() {
		if fd := d.Fields().Get(i); !done[fd.Name()] {
			rest = append(rest, c.field(fd, entry{anyKey: true}))
		}
	}
	m.fields = slices.Insert(m.fields, at, rest...)
}

// put notes where a field number's plan is.
func (m *Message) put(n protowire.Number, at int) {
	if n > 1<<10 {
		if m.sparse == nil {
			m.sparse = map[protowire.Number]int{}
		}
		m.sparse[n] = at
		return
	}
	for len(m.index) <= int(n) {
		m.index = append(m.index, -1)
	}
	m.index[n] = int32(at)
}

// allowed: the table may list the field as it does.
func (c *compiler) allowed(fd protoreflect.FieldDescriptor, e entry) error {
	switch {
	case secret(fd):
		return fmt.Errorf("the API marks it as secret")
	case slices.Contains(c.never, fd.FullName()):
		return fmt.Errorf("it is never to be shown")
	case e.isMap != fd.IsMap():
		return fmt.Errorf("a map, and only a map, names the keys that show")
	case len(e.keys) > maxKeys:
		return fmt.Errorf("more than %d keys", maxKeys)
	case fd.Kind() == protoreflect.GroupKind:
		return fmt.Errorf("groups are not rendered")
	}
	held := fd.Message()
	if fd.IsMap() {
		held = fd.MapValue().Message()
	}
	if held == nil || fd.IsMap() && e.verdict == text {
		return nil
	}
	if _, ok := c.shown[held.FullName()]; !ok {
		return fmt.Errorf("%s has no entry of its own", held.FullName())
	}
	return nil
}

// field compiles one field.
func (c *compiler) field(fd protoreflect.FieldDescriptor, e entry) field {
	f := field{
		number: fd.Number(), kind: fd.Kind(), wire: wireType(fd.Kind()), label: label(fd.Name()), typ: fd.Kind().String(),
		verdict: e.verdict, list: fd.IsList(), isMap: fd.IsMap(), anyKey: e.anyKey, keys: e.keys,
	}
	if secret(fd) || slices.Contains(c.never, fd.FullName()) {
		f.verdict = never
	}
	switch {
	case fd.IsMap():
		key, value := c.field(fd.MapKey(), entry{verdict: shown}), c.field(fd.MapValue(), entry{verdict: e.verdict})
		f.key, f.value = &key, &value
	case fd.Enum() != nil:
		f.typ, f.enum = string(fd.Enum().Name()), enumNames(fd.Enum())
	case fd.Kind() == protoreflect.MessageKind:
		f.typ, f.message = string(fd.Message().Name()), c.message(fd.Message())
	}
	return f
}

func label(name protoreflect.Name) string { return strconv.Quote(string(name)) + ":" }

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
