package fetch

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestThePoolGivesNoMoreBuffersThanTheMemoryAllows(t *testing.T) {
	p := newBufferPool(10 * bufferSize)
	var bufs [][]byte
	for range 10 {
		b, err := p.get(t.Context())
		require.NoError(t, err)
		bufs = append(bufs, b)
	}
	assert.Nil(t, p.tryGet(), "no more than the memory allows")
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	_, err := p.get(ctx)
	assert.ErrorIs(t, err, cause)
	p.put(bufs[0][:7])
	b, err := p.get(t.Context())
	require.NoError(t, err)
	assert.Len(t, b, bufferSize)
	assert.Equal(t, minBuffers, cap(newBufferPool(1).free))
	synctest.Test(t, func(t *testing.T) { // more want a buffer than there are, and some give up
		p := newBufferPool(minBuffers * bufferSize)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
				defer cancel()
				b, err := p.get(ctx)
				if err == nil {
					time.Sleep(3 * time.Millisecond)
					p.put(b)
				}
			})
		}
		wg.Wait()
		assert.Zero(t, p.inUse())
	})
}

// No more goroutines hash at once than there are processors.
func TestAtMostOneGoroutineHashesForEachProcessor(t *testing.T) {
	l := newHashLimit()
	var now, most atomic.Int64
	h := hashFunc(func(p []byte) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		_ = sha256.Sum256(p)
		now.Add(-1)
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				l.write(h, make([]byte, 4096))
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, most.Load(), int64(cap(l.slots)))
	assert.Positive(t, l.spent())
}

type hashFunc func([]byte)

func (f hashFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }
func (f hashFunc) Sum(b []byte) []byte         { return b }
func (f hashFunc) Reset()                      {}
func (f hashFunc) Size() int                   { return 0 }
func (f hashFunc) BlockSize() int              { return 1 }
