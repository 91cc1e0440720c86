package backoff

import (
	"math"
	"time"
)

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

// expired reports whether the streak has ended: strictly after twice the
// longest delay, as in client-go.
func (e entry) expired(now time.Time, limit time.Duration) bool {
	from := e.last
	if e.notBefore.After(from) {
		from = e.notBefore
	}
	return now.Sub(from) > streakAge(limit)
}

// streakAge is how long a streak lives after its last failure.
func streakAge(limit time.Duration) time.Duration { return double(limit, math.MaxInt64) }

// entries is the map of all streaks, and when it was last cleaned.
type entries[K comparable] struct {
	byKey   map[K]entry
	swept   time.Time
	sweepAt int // the number of entries at which the next sweep is due
}

// minSweep is the number of entries below which growth alone causes no sweep.
const minSweep = 64

// sweep drops the streaks that have ended. It looks at all entries, but only when
// their number has doubled since the last sweep, or when a streak's age has
// passed: the failures that brought so many entries pay for it. What is kept moves
// to a new map, because Go's maps never become smaller.
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
