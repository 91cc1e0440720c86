package backoff

import (
	"iter"
	"time"
)

// Delays returns the delays between tries without end: initial, then each twice
// the one before, up to limit. 0 or less means DefaultInitial and DefaultMax.
// There is no jitter in it.
func Delays(initial, limit time.Duration) iter.Seq[time.Duration] {
	delay, limit := bounds(initial, limit)
	return func(yield func(time.Duration) bool) {
		for d := delay; yield(d); d = double(d, limit) {
		}
	}
}

// bounds fills in the defaults and keeps initial within limit.
func bounds(initial, limit time.Duration) (time.Duration, time.Duration) {
	if initial <= 0 {
		initial = DefaultInitial
	}
	if limit <= 0 {
		limit = DefaultMax
	}
	return min(initial, limit), limit
}

// double returns twice d, at most limit, without overflow.
func double(d, limit time.Duration) time.Duration {
	if d > limit/2 {
		return limit
	}
	return 2 * d
}
