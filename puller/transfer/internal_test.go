package transfer

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

func TestPool(t *testing.T) {
	p := newPool(10 * bufferSize)
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
	assert.Equal(t, minBuffers, cap(newPool(1).free))
	synctest.Test(t, func(t *testing.T) { // more want a buffer than there are, and some give up
		p := newPool(minBuffers * bufferSize)
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
		assert.Len(t, p.free, minBuffers-p.left)
	})
}

// No more goroutines hash at once than there are processors.
func TestLimiter(t *testing.T) {
	l := newLimiter()
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

// A lane is added while the hash waits and each one more brings more.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes(8, newLimiter())
		require.True(t, l.take(true))
		require.False(t, l.take(false), "one connection to begin with")
		writing := time.Millisecond // of 10
		write := func(lanes int) {
			beside := make([]bool, lanes)
			for i := range beside {
				beside[i] = l.write()
			}
			time.Sleep(writing)
			for _, b := range beside {
				l.written(b)
			}
		}
		step := func(lanes int, perLane int64) (granted bool) {
			l.moved(0, true)
			time.Sleep(laneSettle)
			for range 20 {
				write(lanes)
				l.moved(perLane*int64(lanes), false)
				time.Sleep(10*time.Millisecond - writing)
				if l.wait(9 * time.Millisecond) {
					return true
				}
			}
			return false
		}
		for lanes := 1; lanes < 8; lanes++ {
			require.True(t, step(lanes, 600_000), "%d lanes", lanes)
			require.True(t, l.take(false))
		}
		assert.False(t, step(8, 600_000), "the limit")
		l.leave(7, false)
		writing = 5 * time.Millisecond
		assert.False(t, step(1, 600_000), "the disk is as slow")
		writing = time.Millisecond

		require.True(t, step(1, 600_000))
		require.True(t, l.take(false))
		assert.False(t, step(2, 300_000), "the second brought nothing")
		assert.True(t, step(2, 300_000), "but the rate before may have been measured too high")
		require.True(t, l.take(false))
		assert.False(t, step(3, 200_000))
		assert.False(t, step(3, 200_000), "and that is enough")
		assert.False(t, step(3, 400_000), "for a while")
		time.Sleep(laneHold)
		assert.True(t, step(3, 400_000))
		l.leave(2, false)
		l.leave(1, true)
		require.True(t, l.take(true))
		assert.False(t, l.take(false), "all forgotten")

		l.moved(0, true)
		for range 50 {
			time.Sleep(10 * time.Millisecond)
			l.moved(10<<20, false)
			assert.False(t, l.wait(time.Millisecond), "the hash is the slower one")
		}
	})
}
