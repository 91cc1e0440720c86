package layout

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLockWaitsAndGivesUp(t *testing.T) {
	l := openTest(t, t.TempDir())
	other := openTest(t, l.Dir())
	require.NoError(t, l.mkdir(stateDir))
	for _, holder := range []*Layout{l, other} { // in the process, and of another
		unlock, err := holder.lock(t.Context(), "k")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error)
		go func() {
			_, err := l.lock(ctx, "k")
			got <- err
		}()
		cancel()
		assert.ErrorIs(t, <-got, context.Canceled)
		_, ok := l.tryLock("k")
		assert.False(t, ok)
		unlock()
		unlock, err = l.lock(t.Context(), "k")
		require.NoError(t, err)
		unlock()
	}
	assert.Empty(t, l.keys.held)
}

// If another process was stopped while it made the layout, Open waits a minute and then
// returns an error.
func TestOpenGivesUpAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disktest.New()
		_, err := (mem.Process()).TryLock(lockName, indexLock)
		require.NoError(t, err)
		start := time.Now()
		_, err = openMem(mem.Process())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, content.ErrStore, content.ReasonOf(err))
		assert.Equal(t, openWait, time.Since(start))
	})
}
