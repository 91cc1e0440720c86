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
	last   time.Time
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
	b.fill()
	if b.tokens < 1 {
		return errRate
	}
	b.tokens--
	return nil
}

// empty reports whether take would refuse now.
func (b *bucket) empty() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	return b.tokens < 1
}

// fill adds the tokens that have come since it was last called.
func (b *bucket) fill() {
	now := time.Now()
	b.tokens = min(b.burst, b.tokens+now.Sub(b.last).Seconds()*b.qps)
	b.last = now
}
