package layout_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An Ingest waits for the goroutine or process that ingests the same blob until its ctx
// ends. After that the blob can be ingested.
func TestIngestWaitsForAnotherUntilItsContextEnds(t *testing.T) {
	l := openTest(t, t.TempDir())
	other := openTest(t, l.Dir())
	_, desc := blobOf(1, 100)
	for _, holder := range []*layout.Layout{l, other} { // in the process, and of another
		held, err := holder.Ingest(t.Context(), desc)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error)
		go func() {
			_, err := l.Ingest(ctx, desc)
			got <- err
		}()
		cancel()
		assert.ErrorIs(t, <-got, context.Canceled)
		require.NoError(t, held.Close())
		in, err := l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		require.NoError(t, in.Close())
	}
}

// If another process was stopped while it made the layout, Open waits a minute and then
// returns an error.
func TestOpenWaitsAMinuteForTheProcessThatMakesTheLayout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := disktest.New()
		_, err := (mem.Process()).TryLock(lockName, indexLock)
		require.NoError(t, err)
		start := time.Now()
		_, err = openMem(mem.Process())
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, content.ErrStore, content.ReasonOf(err))
		assert.Equal(t, time.Minute, time.Since(start))
	})
}
