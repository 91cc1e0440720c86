package transfer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A server that bears one connection says so only after the first one has ended:
// what the second was to bring is asked for once more.
func TestRangesOneConnectionOnly(t *testing.T) {
	for kind, want := range map[content.Kind]bool{content.ErrRateLimited: true, content.ErrNetwork: true, content.ErrStatus: true, content.ErrDenied: false} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			src.latency, src.perRead, src.readSize = 20*time.Millisecond, time.Millisecond, 64<<10
			layer := random(1, 64<<20)
			store.keep(t, layer, [2]int64{20 << 20, 20 << 20}) // two parts are missing
			ref := src.name(appName, src.image(t, amd64, layer))
			refused := 0
			single := hookSource{src, func(ctx context.Context, d ocispec.Descriptor, _ int64) error {
				src.mu.Lock()
				busy := src.inFlight > 0
				src.mu.Unlock()
				if d.Size != int64(len(layer)) || !busy {
					return nil
				}
				refused++
				if err := pause(ctx, 900*time.Millisecond); err != nil {
					return err
				}
				return &content.Error{Kind: kind}
			}}
			_, err := transfer.New(transfer.Config{Source: single, Store: store}).Pull(t.Context(), spec(ref))
			assert.Equal(t, 1, refused, "%s", kind)
			store.clean(t)
			if !want {
				assert.ErrorIs(t, err, kind)
				return
			}
			require.NoError(t, err, "%s", kind)
			assert.Less(t, src.blobBytes, int64(44<<20+1000), "no byte twice")
		})
	}
}
