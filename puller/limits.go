package puller

import (
	"context"
	"errors"
	"sync"
	"time"
)

// slots limits how many pulls run at a time. Pulls that wait for a slot get it in the
// order in which they came, because a channel serves waiting goroutines in that order. A
// nil slots sets no limit.
type slots chan struct{}

// newSlots returns n slots. For n == 0 it returns one slot, and for a negative n it sets
// no limit.
func newSlots(n int) slots {
	switch {
	case n < 0:
		return nil
	case n == 0:
		n = 1
	}
	return make(slots, n)
}

// acquire waits for a slot. The error is the cause of the end of ctx.
func (s slots) acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s == nil {
		return nil
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tryAcquire takes a slot if one is free now.
func (s slots) tryAcquire() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return s == nil
	}
}

// release gives a slot back.
func (s slots) release() {
	if s != nil {
		<-s
	}
}

// defaultBurst is the kubelet's registryBurst.
const defaultBurst = 10

// A bucket refuses pulls beyond a rate. It starts full.
type bucket struct {
	mu     sync.Mutex
	qps    float64
	burst  float64
	tokens float64
	last   time.Time // when a token was last taken
}

// newBucket returns a bucket. For qps == 0 it returns nil, which refuses no pull.
func newBucket(qps float64, burst int) *bucket {
	switch {
	case qps == 0:
		return nil
	case burst == 0:
		burst = defaultBurst
	case burst < 0:
		burst = 0
	}
	return &bucket{qps: qps, burst: float64(burst), tokens: float64(burst), last: time.Now()}
}

// errRate is the error of a pull beyond the rate. The text is the kubelet's.
var errRate = errors.New("pull QPS exceeded")

// take takes a token. If the bucket has none, it returns errRate and does not wait.
func (b *bucket) take() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	available := b.available(now)
	if available < 1 {
		return errRate
	}
	b.tokens, b.last = available-1, now
	return nil
}

// empty reports whether take would refuse now.
func (b *bucket) empty() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.available(time.Now()) < 1
}

// available returns the number of tokens at the time now. It counts from the last token
// that was taken, because a count from the last call would add up rounding errors. As in
// the kubelet, a token that comes within a nanosecond is available.
func (b *bucket) available(now time.Time) float64 {
	return min(b.burst, b.tokens+(now.Sub(b.last)+time.Nanosecond).Seconds()*b.qps)
}
