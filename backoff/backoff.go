package backoff

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/expiring"
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

	mu      sync.Mutex // held while a streak is changed
	streaks expiring.Map[K, streak]
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
	b := &Backoff[K]{config: config}
	b.streaks.Max = -1 // a streak lasts as long as its key fails, however many keys there are
	b.streaks.Now = config.Now
	return b, nil
}

// A State describes a key. A key that has not failed, or whose last streak of failures has
// ended, has the zero State.
type State struct {
	Failures int           // in the current streak
	Delay    time.Duration // of the last failure, without what NotBefore added
	Until    time.Time     // the end of the window, also when it is in the past; zero if there is no window
	Ends     time.Time     // the last moment of the streak, if the key does not fail again; zero if there is no window
}

// Fail records a failure of key and returns how long to wait before the next try.
func (b *Backoff[K]) Fail(key K) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.config.Now()
	s, _ := b.streaks.Get(key)
	s.delay = b.next(s.delay)
	s.failures++
	s.last = now
	b.put(key, s)
	return s.wait(now)
}

// Wait returns how long it is until key may be tried; 0 means it may be tried now.
func (b *Backoff[K]) Wait(key K) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, _ := b.streaks.Get(key)
	return s.wait(b.config.Now())
}

// NotBefore makes key's window last until t, because a server sent Retry-After. It does not
// shorten a window, does not count as a failure and is not bounded by Max. A key that has
// not failed gets a window, too. The time after which a streak ends then counts from t,
// because the key could not fail before t.
func (b *Backoff[K]) NotBefore(key K, t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, known := b.streaks.Get(key)
	if !known && !t.After(b.config.Now()) {
		return
	}
	if t.After(s.notBefore) {
		s.notBefore = t
		b.put(key, s)
	}
}

// Reset forgets key: it may be tried now, and its next failure is the first.
func (b *Backoff[K]) Reset(key K) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streaks.Delete(key)
}

// State describes key.
func (b *Backoff[K]) State(key K) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, known := b.streaks.Get(key)
	if !known {
		return State{}
	}
	return State{Failures: s.failures, Delay: s.delay, Until: s.until(), Ends: s.ends(b.config.Max)}
}

// put keeps the streak s of key. The map forgets it when the streak has ended, which is
// when more than 2 x Max have passed, as in client-go.
func (b *Backoff[K]) put(key K, s streak) {
	b.streaks.Put(key, s, s.ends(b.config.Max).Add(1))
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

// A streak is one key's failures since it last was successful.
type streak struct {
	failures  int
	delay     time.Duration
	last      time.Time // of the last failure; zero if there was none
	notBefore time.Time
}

// until returns the end of the window.
func (s streak) until() time.Time {
	if s.failures == 0 {
		return s.notBefore
	}
	end := s.last.Add(s.delay)
	if s.notBefore.After(end) {
		return s.notBefore
	}
	return end
}

func (s streak) wait(now time.Time) time.Duration { return max(0, s.until().Sub(now)) }

// ends returns the last moment of the streak, if key does not fail again. limit is
// Config.Max.
func (s streak) ends(limit time.Duration) time.Time {
	from := s.last
	if s.notBefore.After(from) {
		from = s.notBefore
	}
	return from.Add(double(limit, math.MaxInt64))
}

// double returns twice d, at most limit, without overflow.
func double(d, limit time.Duration) time.Duration {
	if d > limit/2 {
		return limit
	}
	return 2 * d
}
