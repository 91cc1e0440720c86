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

	mu      sync.Mutex
	entries map[K]*list.Element // of order
	largest int                 // the greatest number of entries since entries was made
	order   list.List           // of *entry[K, V]; the most recently used one is at the back
	swept   time.Time           // when expired entries were last looked for
	puts    int                 // of new keys since then
}

type entry[K comparable, V any] struct {
	key   K
	value V
	until time.Time // zero: for ever
}

func (e *entry[K, V]) expired(now time.Time) bool {
	return !e.until.IsZero() && !now.Before(e.until)
}

// Get returns the value of k, if there is an entry that has not expired.
func (m *Map[K, V]) Get(k K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.sweep(now)
	if e := m.live(k, now); e != nil {
		return e.value, true
	}
	var none V
	return none, false
}

// Put sets the value of k. The entry expires at until; if until is zero, it never expires.
// Put reports whether k is new, which means that Get would have returned false.
func (m *Map[K, V]) Put(k K, v V, until time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.sweep(now)
	if e := m.live(k, now); e != nil {
		e.value, e.until = v, until
		return false
	}
	m.puts++
	for limit := cmp.Or(m.Max, defaultMax); limit > 0 && m.order.Len() >= limit; {
		m.remove(m.order.Front())
	}
	if m.entries == nil {
		m.entries = map[K]*list.Element{}
	}
	m.entries[k] = m.order.PushBack(&entry[K, V]{k, v, until})
	m.largest = max(m.largest, len(m.entries))
	return true
}

// Delete removes the entry of k, if there is one.
func (m *Map[K, V]) Delete(k K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at := m.entries[k]; at != nil {
		m.remove(at)
	}
}

// Len returns the number of entries in memory. It counts entries that have expired and are
// still in memory.
func (m *Map[K, V]) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

// All yields the entries that have not expired, as they are when the loop starts. All does
// not count as a use of them. The loop may call the methods of m.
func (m *Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, e := range m.snapshot() {
			if !yield(e.key, e.value) {
				return
			}
		}
	}
}

func (m *Map[K, V]) snapshot() []entry[K, V] {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	all := make([]entry[K, V], 0, m.order.Len())
	for at := m.order.Front(); at != nil; at = at.Next() {
		if e := at.Value.(*entry[K, V]); !e.expired(now) {
			all = append(all, *e)
		}
	}
	return all
}

// live returns the entry of k and marks it as used. It returns nil if there is no entry
// or the entry has expired. The caller holds the lock.
func (m *Map[K, V]) live(k K, now time.Time) *entry[K, V] {
	at := m.entries[k]
	if at == nil {
		return nil
	}
	e := at.Value.(*entry[K, V])
	if e.expired(now) {
		m.remove(at)
		return nil
	}
	m.order.MoveToBack(at)
	return e
}

// sweep removes expired entries if a minute has passed since the last sweep, or if enough
// new keys were put since then that the cost is spread over many calls. The caller holds
// the lock.
func (m *Map[K, V]) sweep(now time.Time) {
	if m.puts <= m.order.Len()/2 && now.Sub(m.swept) < sweepEvery {
		return
	}
	m.swept, m.puts = now, 0
	for at := m.order.Front(); at != nil; {
		next := at.Next()
		if at.Value.(*entry[K, V]).expired(now) {
			m.remove(at)
		}
		at = next
	}
	if len(m.entries) < m.largest/4 {
		m.shrink()
	}
}

// shrink moves the entries to a new map, because Go's maps never become smaller. The
// caller holds the lock.
func (m *Map[K, V]) shrink() {
	m.largest = len(m.entries)
	m.entries = make(map[K]*list.Element, m.largest)
	for at := m.order.Front(); at != nil; at = at.Next() {
		m.entries[at.Value.(*entry[K, V]).key] = at
	}
}

func (m *Map[K, V]) now() time.Time {
	if m.Now != nil {
		return m.Now()
	}
	return time.Now()
}

// remove removes an entry. The caller holds the lock.
func (m *Map[K, V]) remove(at *list.Element) {
	delete(m.entries, at.Value.(*entry[K, V]).key)
	m.order.Remove(at)
}
