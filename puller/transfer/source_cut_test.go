package transfer_test

import (
	"testing"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A Source that gives fewer bytes than the blob has says only that: here it gets a kind.
func TestBlobIsCut(t *testing.T) {
	for _, size := range sizes {
		src, store := newFakeSource(), newMemStore()
		layer := random(1, size)
		ref := src.name(appName, src.image(t, amd64, layer))
		src.blobs[digestOf(layer)] = layer[:size/2]
		rt := transfer.New(transfer.Config{Source: src, Store: store, Ranges: 1})
		_, err := rt.Pull(t.Context(), spec(ref))
		require.ErrorIs(t, err, content.ErrNetwork)
		assert.ErrorIs(t, err, puller.ErrRegistryUnavailable)
		src.blobs[digestOf(layer)] = layer
		_, err = rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Less(t, src.blobBytes, int64(size+1000), "what came was kept")
		store.clean(t)
	}
}
