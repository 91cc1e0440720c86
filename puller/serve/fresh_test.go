package serve

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Callers share one load, and get a value whose load started after they came. The loads
// run at most a tenth of the time.
func TestLoadsAreSharedAndTakeATenthOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		f := &fresh[int]{load: func(context.Context) (int, error) {
			loads++
			time.Sleep(time.Second)
			return loads, nil
		}}
		began := time.Now()
		for range 100 {
			var callers sync.WaitGroup
			for range 10 {
				callers.Go(func() {
					at := time.Now()
					_, err := f.since(t.Context(), at)
					assert.NoError(t, err)
					assert.False(t, f.began.Before(at))
				})
			}
			callers.Wait()
		}
		assert.Equal(t, 100, loads)
		assert.InDelta(t, 99*10+1, time.Since(began).Seconds(), 1)
		got, err := f.now(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 100, got, "now returns the last value")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = f.since(ctx, time.Now())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// The callers that wait for a load get its error. Later callers start a new load.
func TestAFailedLoadIsNotKept(t *testing.T) {
	broken := errors.New("broken")
	no := broken
	f := &fresh[int]{load: func(context.Context) (int, error) { return 1, no }}
	_, err := f.now(t.Context())
	require.ErrorIs(t, err, broken)
	no = nil
	got, err := f.now(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, got)
}
