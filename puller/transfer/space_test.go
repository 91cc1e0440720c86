package transfer_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRoomForExactlyThat(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	image := src.image(t, amd64, random(1, 3<<20))
	ref := src.name(appName, image)
	rt := transfer.New(transfer.Config{Source: src, Store: store})
	plan, err := rt.Plan(t.Context(), spec(ref))
	require.NoError(t, err)
	need := image.Size
	for _, d := range plan.Fetch {
		need += d.Size
	}
	store.free = need - 1
	_, err = rt.Pull(t.Context(), spec(ref))
	require.ErrorIs(t, err, content.ErrNoSpace)
	assert.Empty(t, src.blobGets)
	store.free = need
	_, err = rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err)
}

// What was kept has its room also while its blob waits for another process.
func TestRoomOfABlobThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		big := random(1, 8<<20)
		store.keep(t, big, [2]int64{0, 7 << 20})
		store.free = 2 << 20
		ref := src.name(appName, src.image(t, amd64, big))
		small := src.name("registry.example/small:v1", src.image(t, amd64, random(2, 1000)))
		other, err := store.Ingest(t.Context(), ocispec.Descriptor{Digest: digestOf(big), Size: 8 << 20})
		require.NoError(t, err)
		rt := transfer.New(transfer.Config{Source: src, Store: store})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := rt.Pull(t.Context(), spec(ref))
			assert.NoError(t, err)
		})
		synctest.Wait()
		_, err = rt.Pull(t.Context(), spec(small))
		assert.NoError(t, err)
		require.NoError(t, other.Close())
		wg.Wait()
		store.clean(t)
	})
}

// An endlessStore lets no huge blob begin.
type endlessStore struct{ *memStore }

func (s endlessStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if desc.Size > 1<<40 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.memStore.Ingest(ctx, desc)
}

// The sizes that several manifests claim may add up to more than an int64 holds.
func TestRoomForMoreThanThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		store.free = math.MaxInt64 - 1
		rt := transfer.New(transfer.Config{Source: src, Store: endlessStore{store}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		config := src.putBlob("application/vnd.example+json", []byte("{}"))
		full := 0
		for i := range 3 {
			layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(fmt.Sprint(i)), Size: math.MaxInt64 - 10000}
			ref := src.name(fmt.Sprintf("registry.example/huge%d:v1", i), src.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{
				"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": []any{layer},
			}))
			done := make(chan error, 1)
			go func() {
				_, err := rt.Pull(ctx, spec(ref))
				done <- err
			}()
			synctest.Wait()
			select {
			case err := <-done:
				assert.ErrorIs(t, err, content.ErrNoSpace)
				full++
			default: // waits in the Store
			}
		}
		assert.Equal(t, 2, full, "there is room for one")
	})
}
