package fetch

import (
	"math"
	"time"
)

const (
	// speedTime is about how long bytes count for the speed of a connection. A connection that
	// becomes slow is noticed after a few times as long.
	speedTime = time.Second
	// A connection's expected speed counts like expectTime in which bytes came, but not
	// like more than expectBytes. The first bytes of a part say little. But a connection
	// that is much slower than expected would look fast for seconds if many bytes counted.
	expectTime  = 250 * time.Millisecond
	expectBytes = 8 << 20
)

// A speed is how fast bytes come over one connection. It is a mean over the past, in which
// time counts less the longer ago it is.
type speed struct {
	at      time.Time
	seconds float64 // up to at
	bytes   float64 // that came in these seconds
}

// newSpeed returns the speed of a connection that is expected to take read seconds for a
// byte. read is 0 if that is not known.
func newSpeed(read float64) speed {
	s := speed{at: time.Now()}
	if read > 0 {
		s.seconds = min(expectTime.Seconds(), expectBytes*read)
		s.bytes = s.seconds / read
	}
	return s
}

// add counts n bytes that have come by now.
func (s *speed) add(now time.Time, n int64) {
	*s = s.until(now)
	s.bytes += float64(n)
}

// perByte returns how many seconds a byte takes.
func (s speed) perByte(now time.Time) float64 {
	s = s.until(now)
	return max(s.seconds/max(s.bytes, 1), 1e-12)
}

// until returns the speed at the time now, if no more bytes have come.
func (s speed) until(now time.Time) speed {
	d := now.Sub(s.at).Seconds()
	weight := math.Exp(-d / speedTime.Seconds())
	return speed{now, s.seconds*weight + d, s.bytes * weight}
}
