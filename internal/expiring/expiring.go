// Package expiring has a map for values that a long-running process remembers. Each entry
// expires at its own time, and the number of entries has a limit.
package expiring

import (
	"cmp"
	"container/list"
	"iter"
	"sync"
	"time"
)

// sweepEvery is the longest time between two searches for expired entries in a map that is
// in use.
const sweepEvery = time.Minute

// defaultMax is how many entries a Map with a zero Max holds.
const defaultMax = 4096

// A Map holds at most Max entries. When the map is full, a new entry replaces the entry
// that was not used for the longest time. Get and Put count as uses. The zero Map is
// empty and ready for use. Its methods may be called concurrently.
//
// An expired entry is never returned. Its memory is freed after at most as many new keys as
// the map has entries, and at the latest by the first Get or Put that comes a minute or
// more after the entry expired. So secrets and large values do not stay in memory when no
// caller asks for them again.
type Map[K comparable, V any] struct {
	// Max is how many entries the map holds: zero means 4096, and a negative Max means as
	// many as are put. It must not be changed after the first Put.
	Max int
	// Now is the clock; nil means time.Now. It must not call the map.
	Now func() time.Time

	table table
}

// Get returns the value of k, if there is an entry that has not expired.
func (m *Map[K, V]) Get(k K) (V, bool) {
	v, ok := m.table.get(k, m.Now)
	value, _ := v.(V) // a nil interface is the zero V
	return value, ok
}

// Put sets the value of k. The entry expires at until; if until is zero, it never expires.
// Put reports whether k is new, which means that Get would have returned false.
func (m *Map[K, V]) Put(k K, v V, until time.Time) bool {
	return m.table.put(entry{k, v, until}, m.Now, m.Max)
}

// Delete removes the entry of k, if there is one.
func (m *Map[K, V]) Delete(k K) { m.table.delete(k) }

// Len returns the number of entries in memory. It counts entries that have expired and are
// still in memory.
func (m *Map[K, V]) Len() int { return m.table.len() }

// All yields the entries that have not expired, as they are when the loop starts. All does
// not count as a use of them. The loop may call the methods of m.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, e := range m.table.snapshot(m.Now) {
			value, _ := e.value.(V)
			if !yield(e.key.(K), value) {
				return
			}
		}
	}
}

// A table has the entries of a Map. It does not know their types, so that a program that
// has Maps of many types has this code only once.
type table struct {
	mu      sync.Mutex
	entries map[any]*list.Element // of order
	largest int                   // the greatest number of entries since entries was made
	order   list.List             // of *entry; the most recently used one is at the back
	swept   time.Time             // when expired entries were last looked for
	puts    int                   // of new keys since then
}

type entry struct {
	key, value any
	until      time.Time // zero: for ever
}

func (e *entry) expired(now time.Time) bool {
	return !e.until.IsZero() && !now.Before(e.until)
}

func (t *table) get(k any, clock func() time.Time) (any, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := at(clock)
	t.sweep(now)
	if e := t.live(k, now); e != nil {
		return e.value, true
	}
	return nil, false
}

func (t *table) put(e entry, clock func() time.Time, limit int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := at(clock)
	t.sweep(now)
	if old := t.live(e.key, now); old != nil {
		old.value, old.until = e.value, e.until
		return false
	}
	t.puts++
	for limit = cmp.Or(limit, defaultMax); limit > 0 && t.order.Len() >= limit; {
		t.remove(t.order.Front())
	}
	if t.entries == nil {
		t.entries = map[any]*list.Element{}
	}
	t.entries[e.key] = t.order.PushBack(&e)
	t.largest = max(t.largest, len(t.entries))
	return true
}

func (t *table) delete(k any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if el := t.entries[k]; el != nil {
		t.remove(el)
	}
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}

// snapshot returns a copy of the entries that have not expired.
func (t *table) snapshot(clock func() time.Time) []entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := at(clock)
	all := make([]entry, 0, t.order.Len())
	for el := t.order.Front(); el != nil; el = el.Next() {
		if e := el.Value.(*entry); !e.expired(now) {
			all = append(all, *e)
		}
	}
	return all
}

// live returns the entry of k and marks it as used. It returns nil if there is no entry
// or the entry has expired. The caller holds the lock.
func (t *table) live(k any, now time.Time) *entry {
	el := t.entries[k]
	if el == nil {
		return nil
	}
	e := el.Value.(*entry)
	if e.expired(now) {
		t.remove(el)
		return nil
	}
	t.order.MoveToBack(el)
	return e
}

// sweep removes expired entries if a minute has passed since the last sweep, or if enough
// new keys were put since then that the cost is spread over many calls. The caller holds
// the lock.
func (t *table) sweep(now time.Time) {
	if t.puts <= t.order.Len()/2 && now.Sub(t.swept) < sweepEvery {
		return
	}
	t.swept, t.puts = now, 0
	for el := t.order.Front(); el != nil; {
		next := el.Next()
		if el.Value.(*entry).expired(now) {
			t.remove(el)
		}
		el = next
	}
	if len(t.entries) < t.largest/4 {
		t.shrink()
	}
}

// shrink moves the entries to a new map, because Go's maps never become smaller. The
// caller holds the lock.
func (t *table) shrink() {
	t.largest = len(t.entries)
	t.entries = make(map[any]*list.Element, t.largest)
	for el := t.order.Front(); el != nil; el = el.Next() {
		t.entries[el.Value.(*entry).key] = el
	}
}

// remove removes an entry. The caller holds the lock.
func (t *table) remove(el *list.Element) {
	delete(t.entries, el.Value.(*entry).key)
	t.order.Remove(el)
}

// at returns the time by a clock; nil is that of the system.
func at(clock func() time.Time) time.Time {
	if clock != nil {
		return clock()
	}
	return time.Now()
}
