package transfer_test

import (
	"io"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A Source that fails where a part is asked for does not make what was kept of a
// blob stand in its way for ever; one that fails at the whole, too, is not asked again.
func TestSourceRefusesRanges(t *testing.T) {
	for _, size := range sizes {
		for _, whole := range []bool{true, false} {
			src, store := newFakeSource(), newMemStore()
			layer := random(1, size)
			ref := src.name(appName, src.image(t, amd64, layer))
			store.keep(t, layer, [2]int64{0, 1000})
			asked := 0
			src.blob = func(desc ocispec.Descriptor, _ credentials.Credential, off, _ int64) (io.ReadCloser, int64, error) {
				if desc.Size != int64(size) {
					return nil, 0, nil
				}
				asked++
				if off > 0 || !whole {
					return nil, 0, &content.Error{Kind: content.ErrRange}
				}
				return nil, 0, nil
			}
			_, err := transfer.New(transfer.Config{Source: src, Store: store, Ranges: 1}).Pull(t.Context(), spec(ref))
			assert.Equal(t, 2, asked)
			if whole {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, content.ErrRange)
			}
			store.clean(t)
		}
	}
}
