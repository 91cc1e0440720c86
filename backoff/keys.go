package backoff

import (
	"maps"
	"math"
	"time"
)

// keys holds the entries in the order of their last failure, oldest first. As
// all live for the same time after it, those that have expired are in front.
type keys[K comparable] struct {
	byKey map[K]*entry[K]
	peak  int       // the largest number of entries since byKey was made
	ring  *entry[K] // the oldest; ring.older is the newest
}

// An entry is one key's streak of failures.
type entry[K comparable] struct {
	key          K
	older, newer *entry[K] // in a ring
	failures     int
	delay        time.Duration
	last         time.Time // of the last failure; zero if there is none
	notBefore    time.Time
}

// until returns the end of the window.
func (e *entry[K]) until() time.Time {
	if e.failures == 0 {
		return e.notBefore
	}
	end := e.last.Add(e.delay)
	if e.notBefore.After(end) {
		return e.notBefore
	}
	return end
}

func (e *entry[K]) wait(now time.Time) time.Duration { return max(0, e.until().Sub(now)) }

// expired reports whether the streak has ended: strictly after twice the
// longest delay, as in client-go.
func (e *entry[K]) expired(now time.Time, limit time.Duration) bool {
	from := e.last
	if e.notBefore.After(from) {
		from = e.notBefore
	}
	return now.Sub(from) > double(limit, math.MaxInt64)
}

func (k *keys[K]) get(key K) *entry[K] { return k.byKey[key] }

// add makes an entry for a key that has none.
func (k *keys[K]) add(key K) *entry[K] {
	if k.byKey == nil {
		k.byKey = make(map[K]*entry[K])
	}
	e := &entry[K]{key: key}
	k.byKey[key] = e
	k.peak = max(k.peak, len(k.byKey))
	k.link(e)
	return e
}

// touch makes e the newest.
func (k *keys[K]) touch(e *entry[K]) {
	k.unlink(e)
	k.link(e)
}

func (k *keys[K]) remove(e *entry[K]) {
	k.unlink(e)
	delete(k.byKey, e.key)
	k.shrink()
}

// sweepSteps is how many entries each call looks at. More than one, so that
// expired entries go faster than new ones can come.
const sweepSteps = 2

// sweep drops expired entries, oldest first. One that NotBefore keeps alive is
// put behind the others, so that it does not hide them.
func (k *keys[K]) sweep(now time.Time, limit time.Duration) {
	for range sweepSteps {
		e := k.ring
		switch {
		case e == nil:
			return
		case e.expired(now, limit):
			k.remove(e)
		case e.notBefore.After(e.last):
			k.touch(e)
		default:
			return
		}
	}
}

// minPeak is the size below which a map is not worth making smaller.
const minPeak = 1024

// shrink makes a new map when most entries have gone: Go's maps never give
// memory back. Copying a quarter is paid for by the removal of the rest.
func (k *keys[K]) shrink() {
	if k.peak < minPeak || len(k.byKey) > k.peak/4 {
		return
	}
	smaller := make(map[K]*entry[K], len(k.byKey))
	maps.Copy(smaller, k.byKey)
	k.byKey, k.peak = smaller, len(smaller)
}

// link puts e into the ring as the newest.
func (k *keys[K]) link(e *entry[K]) {
	if k.ring == nil {
		e.older, e.newer = e, e
		k.ring = e
		return
	}
	oldest, newest := k.ring, k.ring.older
	e.older, e.newer = newest, oldest
	newest.newer, oldest.older = e, e
}

func (k *keys[K]) unlink(e *entry[K]) {
	if e.newer == e {
		k.ring = nil
		return
	}
	e.older.newer, e.newer.older = e.newer, e.older
	if k.ring == e {
		k.ring = e.newer
	}
}
