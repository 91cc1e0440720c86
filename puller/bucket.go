package puller

import (
	"errors"
	"sync"
	"time"
)

// defaultBurst is the kubelet's registryBurst.
const defaultBurst = 10

// A bucket refuses pulls beyond a rate. It is full at first.
type bucket struct {
	mu     sync.Mutex
	qps    float64
	burst  float64
	tokens float64
	last   time.Time // when one was last taken
}

// newBucket returns nil, which refuses nothing, for qps == 0.
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

// errRate is what the kubelet calls a pull beyond the rate.
var errRate = errors.New("pull QPS exceeded")

// take takes a token; it does not wait for one.
func (b *bucket) take() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	have := b.have(now)
	if have < 1 {
		return errRate
	}
	b.tokens, b.last = have-1, now
	return nil
}

// empty reports whether take would refuse now.
func (b *bucket) empty() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.have(time.Now()) < 1
}

// have is how many tokens there are now. It is counted from the last one taken and
// not from the last call, which would add up rounding errors, and as for the
// kubelet one that comes within a nanosecond is there.
func (b *bucket) have(now time.Time) float64 {
	return min(b.burst, b.tokens+(now.Sub(b.last)+time.Nanosecond).Seconds()*b.qps)
}
