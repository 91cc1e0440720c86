package keylock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pullkit/pullkit/internal/keylock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOneGoroutineAtATimeHasTheLockOfAKey(t *testing.T) {
	var locks keylock.Locks
	var wg sync.WaitGroup
	counts := map[string]*int{"a": new(int), "b": new(int)}
	for key, n := range counts {
		for range 50 {
			wg.Go(func() {
				unlock, err := locks.Lock(t.Context(), key)
				if assert.NoError(t, err) {
					*n++ // a race without the lock
					unlock()
				}
			})
		}
	}
	wg.Wait()
	assert.Equal(t, []int{50, 50}, []int{*counts["a"], *counts["b"]})
	assert.Zero(t, locks.Len(), "no lock is kept")
}

func TestLocksAreGivenInTheOrderOfTheCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keylock.Locks
		unlock, err := locks.Lock(t.Context(), "k")
		require.NoError(t, err)
		var order []int
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				unlock, err := locks.Lock(t.Context(), "k")
				if assert.NoError(t, err) {
					order = append(order, i)
					unlock()
				}
			})
			synctest.Wait()
		}
		unlock()
		wg.Wait()
		assert.Equal(t, []int{0, 1, 2, 3, 4}, order)
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keylock.Locks
		unlock, err := locks.Lock(t.Context(), "k")
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		got := make(chan error)
		go func() {
			_, err := locks.Lock(ctx, "k")
			got <- err
		}()
		synctest.Wait()
		left := errors.New("left")
		cancel(left)
		assert.ErrorIs(t, <-got, left)
		_, err = locks.Lock(ctx, "free")
		assert.ErrorIs(t, err, left, "a context that has ended gets no lock, even if the lock is free")
		assert.Equal(t, 1, locks.Len())
		unlock()
		assert.Zero(t, locks.Len())
	})
}

func TestTryLockDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks keylock.Locks
		unlock, ok := locks.TryLock("k")
		require.True(t, ok)
		_, ok = locks.TryLock("k")
		assert.False(t, ok)
		other, ok := locks.TryLock("other")
		require.True(t, ok)
		other()
		next := make(chan func())
		go func() {
			unlock, err := locks.Lock(t.Context(), "k")
			assert.NoError(t, err)
			next <- unlock
		}()
		synctest.Wait()
		unlock()
		(<-next)()
		assert.Zero(t, locks.Len())
	})
}
