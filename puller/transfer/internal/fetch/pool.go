package fetch

import (
	"context"
	"sync"
)

const (
	// bufferSize is the largest number of bytes that one read takes from a connection.
	// Larger buffers bring no measurable gain, and do not fit into the processor's cache.
	bufferSize = 256 << 10
	// minBuffers are enough for one blob to make progress: a connection reads one
	// buffer and writes another, the hash has one, and one is needed to read back
	// what came over another connection.
	minBuffers = 4
	// maxBuffers is the largest number of buffers, which together have 16 GiB. That is
	// more than are ever in use.
	maxBuffers = 1 << 16
)

// A bufferPool hands out the buffers of all fetches of a Fetcher and takes them back. It
// is not a sync.Pool, because a sync.Pool has no limit and each garbage collection
// empties it.
type bufferPool struct {
	free chan []byte
	mu   sync.Mutex
	left int // how many buffers may still be made
}

func newBufferPool(memory int64) *bufferPool {
	n := int(min(maxBuffers, max(minBuffers, memory/bufferSize)))
	return &bufferPool{free: make(chan []byte, n), left: n}
}

// get waits for a buffer, or for the end of ctx.
func (p *bufferPool) get(ctx context.Context) ([]byte, error) {
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

// tryGet returns nil if no buffer is free.
func (p *bufferPool) tryGet() []byte {
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

func (p *bufferPool) put(b []byte) { p.free <- b[:bufferSize] }

// inUse returns the number of buffers that were not given back.
func (p *bufferPool) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cap(p.free) - p.left - len(p.free)
}
