package transfer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What was told as resumed is not taken back without a word, however fast the
// blob came once it began anew.
func TestProgressOfAFastRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		layer := random(1, 3<<20)
		ref := src.name(appName, src.image(t, amd64, layer))
		store.keepAs(t, digestOf(layer), flipped(layer, 5), [2]int64{0, 1 << 20})
		slow := hookSource{src, func(ctx context.Context, _ ocispec.Descriptor, off int64) error {
			if off > 0 {
				return pause(ctx, 350*time.Millisecond)
			}
			return nil
		}}
		w := newWatcher(t)
		var resumed, total int64
		s := spec(ref)
		s.Progress = func(p puller.Progress) {
			w.tell(p)
			if p.State != puller.BlobRestarted && p.Blob.Digest == digestOf(layer) {
				assert.GreaterOrEqual(t, p.Resumed, resumed, "%s", p.State)
				assert.GreaterOrEqual(t, p.TotalResumed, total, "%s", p.State)
			}
			resumed, total = p.Resumed, p.TotalResumed
		}
		_, err := transfer.New(transfer.Config{Source: slow, Store: store}).Pull(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, 1, w.states[puller.BlobRestarted])
		assert.Equal(t, w.total.Total, w.total.TotalDone)
		assert.Zero(t, w.total.TotalResumed)
	})
}

// A config that was fetched to learn the platform is told of like other blobs.
func TestProgressOfAConfigThatCameFirst(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	ref := src.name(appName, src.image(t, amd64, random(1, 1000)))
	rt := transfer.New(transfer.Config{Source: src, Store: store, RequirePlatform: true})
	for _, state := range []puller.BlobState{puller.BlobStored, puller.BlobPresent} {
		w := newWatcher(t)
		s := spec(ref)
		s.Progress = w.tell
		_, err := rt.Pull(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, map[puller.BlobState]int{"": 1, state: 2}, w.states)
		assert.Equal(t, w.total.Total, w.total.TotalDone)
	}
}
