package backoff

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// The kubelet's delays for image pulls (k8s.io/kubernetes, pkg/kubelet).
const (
	defaultInitial = 10 * time.Second
	defaultMax     = 300 * time.Second
)

// A Config has the settings of a Backoff. The zero Config means the kubelet's delays for
// image pulls.
type Config struct {
	// Initial is the delay after the first failure; 0 means 10 seconds.
	Initial time.Duration
	// Max caps each delay after a failure, also the first one; 0 means 5 minutes. A streak
	// of failures ends when more than 2 x Max pass without one.
	Max time.Duration
	// Jitter makes each delay longer by a random amount, so that many clients do not try
	// again at the same time. The amount is less than Jitter times the previous delay: with
	// 0.5, less than half of it. 0 means no jitter, as in the kubelet.
	Jitter float64
	// Rand returns a random number in [0, 1) for the jitter; nil means math/rand/v2. It
	// is called under a lock and must not call the Backoff.
	Rand func() float64
	// Now is the clock; nil means time.Now. It is called under a lock and must not call
	// the Backoff.
	Now func() time.Time
}

// A Backoff remembers the failures of each key. New makes one. Its methods may be called
// concurrently. The time that a call takes, averaged over many calls, does not grow with
// the number of keys.
type Backoff[K comparable] struct {
	config Config // with the defaults in place of zero fields

	mu      sync.Mutex
	entries entries[K]
}

// New returns a Backoff in which no key has failed. The error says which setting is
// negative or not a number.
func New[K comparable](config Config) (*Backoff[K], error) {
	switch {
	case config.Initial < 0:
		return nil, fmt.Errorf("backoff: Initial is %v; it must not be negative", config.Initial)
	case config.Max < 0:
		return nil, fmt.Errorf("backoff: Max is %v; it must not be negative", config.Max)
	case !(config.Jitter >= 0):
		return nil, fmt.Errorf("backoff: Jitter is %v; it must be a number that is not negative", config.Jitter)
	}
	config.Max = cmp.Or(config.Max, defaultMax)
	config.Initial = min(cmp.Or(config.Initial, defaultInitial), config.Max)
	if config.Rand == nil {
		config.Rand = rand.Float64
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Backoff[K]{config: config}, nil
}

// A State describes a key. A key that has not failed, or whose last streak of failures has
// ended, has the zero State.
type State struct {
	Failures int           // in the current streak
	Delay    time.Duration // of the last failure, without what NotBefore added
	Until    time.Time     // the end of the window, also when it is in the past; zero if there is no window
}

// Fail records a failure of key and returns how long to wait before the next try.
func (b *Backoff[K]) Fail(key K) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.config.Now()
	e, _ := b.lookup(key, now)
	e.delay = b.next(e.delay)
	e.failures++
	e.last = now
	b.entries.byKey[key] = e
	return e.wait(now)
}

// Wait returns how long it is until key may be tried; 0 means it may be tried now.
func (b *Backoff[K]) Wait(key K) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.config.Now()
	e, _ := b.lookup(key, now)
	return e.wait(now)
}

// NotBefore makes key's window last until t, because a server sent Retry-After. It does not
// shorten a window, does not count as a failure and is not bounded by Max. A key that has
// not failed gets a window, too. The time after which a streak ends then counts from t,
// because the key could not fail before t.
func (b *Backoff[K]) NotBefore(key K, t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.config.Now()
	e, known := b.lookup(key, now)
	if !known && !t.After(now) {
		return
	}
	if t.After(e.notBefore) {
		e.notBefore = t
		b.entries.byKey[key] = e
	}
}

// Reset forgets key: it may be tried now, and its next failure is the first.
func (b *Backoff[K]) Reset(key K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lookup(key, b.config.Now())
	delete(b.entries.byKey, key)
}

// State describes key.
func (b *Backoff[K]) State(key K) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, _ := b.lookup(key, b.config.Now())
	return State{Failures: e.failures, Delay: e.delay, Until: e.until()}
}

// lookup returns key's entry, or the zero entry if key has none or its streak has ended. It
// sweeps all entries when a sweep is due.
func (b *Backoff[K]) lookup(key K, now time.Time) (e entry, known bool) {
	limit := b.config.Max
	b.entries.sweep(now, limit)
	e, known = b.entries.byKey[key]
	if known && e.expired(now, limit) {
		delete(b.entries.byKey, key)
		return entry{}, false
	}
	return e, known
}

// next returns the delay that follows the delay previous. previous is 0 for the first
// failure of a streak.
func (b *Backoff[K]) next(previous time.Duration) time.Duration {
	limit := b.config.Max
	delay, base := b.config.Initial, b.config.Initial
	if previous > 0 {
		delay, base = double(previous, limit), previous
	}
	if b.config.Jitter == 0 {
		return delay
	}
	extra := b.config.Rand() * b.config.Jitter * float64(base)
	if room := limit - delay; extra < float64(room) {
		return delay + max(0, time.Duration(extra))
	}
	return limit
}

// An entry is one key's streak of failures.
type entry struct {
	failures  int
	delay     time.Duration
	last      time.Time // of the last failure; zero if there was none
	notBefore time.Time
}

// until returns the end of the window.
func (e entry) until() time.Time {
	if e.failures == 0 {
		return e.notBefore
	}
	end := e.last.Add(e.delay)
	if e.notBefore.After(end) {
		return e.notBefore
	}
	return end
}

func (e entry) wait(now time.Time) time.Duration { return max(0, e.until().Sub(now)) }

// expired reports whether the streak has ended: more than twice the longest delay has
// passed, as in client-go.
func (e entry) expired(now time.Time, limit time.Duration) bool {
	from := e.last
	if e.notBefore.After(from) {
		from = e.notBefore
	}
	return now.Sub(from) > streakAge(limit)
}

// streakAge returns how long a streak lasts after its last failure.
func streakAge(limit time.Duration) time.Duration { return double(limit, math.MaxInt64) }

// entries is the map of all streaks, and when it was last cleaned.
type entries[K comparable] struct {
	byKey   map[K]entry
	swept   time.Time
	sweepAt int // the number of entries at which the next sweep is due
}

// minSweep is the number of entries below which growth alone causes no sweep.
const minSweep = 64

// sweep drops the streaks that have ended. It looks at all entries, but only when their
// number has doubled since the last sweep, or when streakAge has passed. So its cost,
// spread over the calls that added the entries, is constant. The remaining entries move to
// a new map, because Go's maps never become smaller.
func (s *entries[K]) sweep(now time.Time, limit time.Duration) {
	due := s.byKey == nil || len(s.byKey) >= max(minSweep, s.sweepAt) || now.Sub(s.swept) > streakAge(limit)
	if !due {
		return
	}
	kept := make(map[K]entry)
	for key, e := range s.byKey {
		if !e.expired(now, limit) {
			kept[key] = e
		}
	}
	s.byKey, s.swept, s.sweepAt = kept, now, 2*len(kept)
}

// double returns twice d, at most limit, without overflow.
func double(d, limit time.Duration) time.Duration {
	if d > limit/2 {
		return limit
	}
	return 2 * d
}
