package backoff

import (
	"math/rand/v2"
	"sync"
	"time"
)

// The kubelet's figures for image pulls (k8s.io/kubernetes, pkg/kubelet).
const (
	DefaultInitial = 10 * time.Second
	DefaultMax     = 300 * time.Second
)

// A Backoff remembers the failures of each key. The zero Backoff is ready to
// use. Its methods may be called concurrently; it must not be copied, nor its
// fields changed, after the first call. Each call takes constant time, averaged
// over many, whatever the number of keys.
type Backoff[K comparable] struct {
	// Initial is the delay after the first failure; 0 or less means DefaultInitial.
	Initial time.Duration
	// Max is the longest delay that failures lead to; 0 or less means DefaultMax.
	// A streak of failures ends when more than 2 x Max pass without one.
	Max time.Duration
	// Jitter lengthens delays at random by up to this part of the delay before,
	// so that many clients do not come back at once; 0.5 is up to half of it.
	// 0 or less means none, as in the kubelet.
	Jitter float64
	// Rand returns a random number in [0, 1) for the jitter; nil means
	// math/rand/v2. It is called under a lock and must not call the Backoff.
	Rand func() float64
	// Now is the clock; nil means time.Now. It is called under a lock and must
	// not call the Backoff.
	Now func() time.Time

	mu   sync.Mutex
	keys keys[K]
}

// A State is what is known of a key. The zero State is that of a key which may
// be tried and has not failed, or not since its last streak of failures ended.
type State struct {
	Failures int           // in the current streak
	Delay    time.Duration // of the last failure, without what NotBefore added
	Until    time.Time     // the end of the window, also when it is past; zero if there is none
}

// Fail records a failure of key and returns how long to wait before the next try.
func (b *Backoff[K]) Fail(key K) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	e := b.lookup(key, now)
	if e == nil {
		e = b.keys.add(key)
	} else {
		b.keys.touch(e)
	}
	e.delay = b.next(e.delay)
	e.failures++
	e.last = now
	return e.wait(now)
}

// Wait returns how long it is until key may be tried; 0 means it may be tried now.
func (b *Backoff[K]) Wait(key K) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	e := b.lookup(key, now)
	if e == nil {
		return 0
	}
	return e.wait(now)
}

// NotBefore lengthens key's window to t, because a server said so with
// Retry-After. It never shortens one, counts as no failure and is not bounded
// by Max. A key that has not failed gets a window, too. The age at which a
// streak ends then counts from t, since nothing could fail before.
func (b *Backoff[K]) NotBefore(key K, t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	e := b.lookup(key, now)
	if e == nil {
		if !t.After(now) {
			return
		}
		e = b.keys.add(key)
	}
	if t.After(e.notBefore) {
		e.notBefore = t
	}
}

// Reset forgets key: it may be tried now, and its next failure is the first.
func (b *Backoff[K]) Reset(key K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.lookup(key, b.now()); e != nil {
		b.keys.remove(e)
	}
}

// State returns what is known of key.
func (b *Backoff[K]) State(key K) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.lookup(key, b.now())
	if e == nil {
		return State{}
	}
	return State{Failures: e.failures, Delay: e.delay, Until: e.until()}
}

// lookup sweeps a little and returns key's entry, nil if it has none or it has expired.
func (b *Backoff[K]) lookup(key K, now time.Time) *entry[K] {
	_, limit := bounds(b.Initial, b.Max)
	b.keys.sweep(now, limit)
	e := b.keys.get(key)
	if e == nil || !e.expired(now, limit) {
		return e
	}
	b.keys.remove(e)
	return nil
}

// next returns the delay that follows previous, 0 for the first of a streak.
func (b *Backoff[K]) next(previous time.Duration) time.Duration {
	initial, limit := bounds(b.Initial, b.Max)
	delay, base := initial, initial
	if previous > 0 {
		delay, base = double(previous, limit), previous
	}
	if !(b.Jitter > 0) {
		return delay
	}
	extra := b.random() * b.Jitter * float64(base)
	if room := limit - delay; extra < float64(room) {
		return delay + max(0, time.Duration(extra))
	}
	return limit
}

func (b *Backoff[K]) now() time.Time {
	if b.Now == nil {
		return time.Now()
	}
	return b.Now()
}

func (b *Backoff[K]) random() float64 {
	if b.Rand == nil {
		return rand.Float64()
	}
	return b.Rand()
}
