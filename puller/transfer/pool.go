package transfer

import (
	"context"
	"hash"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// bufferSize is what one read takes from a connection at most. Larger buffers
// gain nothing measurable and fall out of the processor's cache.
const bufferSize = 256 << 10

// A pool hands out the buffers of all transfers of a Runtime and recycles them.
// It is no sync.Pool: that one has no bound, and is emptied by each collection.
type pool struct {
	free chan []byte
	mu   sync.Mutex
	left int // buffers that may still be made
}

func newPool(memory int64) *pool {
	n := int(min(maxBuffers, max(minBuffers, memory/bufferSize)))
	return &pool{free: make(chan []byte, n), left: n}
}

const (
	// minBuffers lets one blob go on: a connection reads one buffer and writes
	// another, the hash has one, and one is to read back what came over another
	// connection.
	minBuffers = 4
	// maxBuffers, 16 GiB, are more than are ever in use: who sets no limit means that.
	maxBuffers = 1 << 16
)

// get waits for a buffer, or for the end of ctx.
func (p *pool) get(ctx context.Context) ([]byte, error) {
	if b := p.tryGet(); b != nil {
		return b, nil
	}
	select {
	case b := <-p.free:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// tryGet returns nil when no buffer is free.
func (p *pool) tryGet() []byte {
	select {
	case b := <-p.free:
		return b
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		return nil
	}
	p.left--
	return make([]byte, bufferSize)
}

func (p *pool) put(b []byte) { p.free <- b[:bufferSize] }

// A limiter lets at most as many goroutines hash at once as there are
// processors: more would only take turns, with colder caches.
type limiter struct {
	slots chan struct{}
	nanos atomic.Int64
}

func newLimiter() *limiter { return &limiter{slots: make(chan struct{}, runtime.GOMAXPROCS(0))} }

func (l *limiter) write(h hash.Hash, p []byte) {
	l.slots <- struct{}{}
	defer func() { <-l.slots }() // also where a hash of Config.NewHash panics
	began := time.Now()
	h.Write(p) // never fails
	l.nanos.Add(int64(time.Since(began)))
}

// spent is the time that was spent with hashing, over all goroutines.
func (l *limiter) spent() time.Duration { return time.Duration(l.nanos.Load()) }
