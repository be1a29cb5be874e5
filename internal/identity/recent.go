package identity

import (
	"container/list"
	"slices"
	"strings"
)

// recent is a map of a bounded number of entries. When it is full, the entry
// that was neither put nor got for the longest time makes room.
type recent[V any] struct {
	limit   int
	entries map[string]*list.Element // of *item[V]
	order   *list.List               // the latest in front
	sorted  []string                 // the keys
}

type item[V any] struct {
	key   string
	value V
}

func newRecent[V any](limit int) *recent[V] {
	return &recent[V]{limit: limit, entries: map[string]*list.Element{}, order: list.New()}
}

func (r *recent[V]) get(key string) (V, bool) { return r.use(r.entries[key]) }

// getBytes is get; a map is asked by bytes without making a string of them.
func (r *recent[V]) getBytes(key []byte) (V, bool) { return r.use(r.entries[string(key)]) }

func (r *recent[V]) use(e *list.Element) (value V, ok bool) {
	if e == nil {
		return value, false
	}
	r.order.MoveToFront(e)
	return e.Value.(*item[V]).value, true
}

func (r *recent[V]) put(key string, value V) {
	if e, ok := r.entries[key]; ok {
		e.Value.(*item[V]).value = value
		r.order.MoveToFront(e)
		return
	}
	if len(r.entries) == r.limit {
		r.drop(r.order.Back().Value.(*item[V]).key)
	}
	r.entries[key] = r.order.PushFront(&item[V]{key, value})
	at, _ := slices.BinarySearch(r.sorted, key)
	r.sorted = slices.Insert(r.sorted, at, key)
}

// retire has an entry make room before any other.
func (r *recent[V]) retire(key string) {
	if e, ok := r.entries[key]; ok {
		r.order.MoveToBack(e)
	}
}

func (r *recent[V]) drop(key string) {
	if e, ok := r.entries[key]; ok {
		r.order.Remove(e)
		delete(r.entries, key)
		at, _ := slices.BinarySearch(r.sorted, key)
		r.sorted = slices.Delete(r.sorted, at, at+1)
	}
}

// Of an id that a runtime gives, 64 letters, people and their tools may say less:
// crictl prints 13, and hands on what it is given. A runtime takes whatever is the
// beginning of one of its ids alone; we may not know all of its, and so ask for more.
const (
	idLetters    = 64
	enoughOfThem = 8
)

// whole is the one id that begins with so much of it; if there is none, or there are
// several, that.
func (r *recent[V]) whole(part string) string {
	if len(part) < enoughOfThem || len(part) >= idLetters || r.entries[part] != nil {
		return part
	}
	at, _ := slices.BinarySearch(r.sorted, part)
	begins := func(i int) bool { return i < len(r.sorted) && strings.HasPrefix(r.sorted[i], part) }
	if !begins(at) || begins(at+1) || len(r.sorted[at]) != idLetters {
		return part
	}
	return r.sorted[at]
}
