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
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnImageNeedsRoomForItsBlobsAndManifest(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	image := src.image(t, amd64, random(1, 3<<20))
	ref := src.name(appName, image)
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
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

// Kept bytes of a blob count as stored while the blob's ingest waits for another process.
func TestKeptBytesCountAsStoredWhileTheirIngestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		big := random(1, 8<<20)
		store.keep(t, big, [2]int64{0, 7 << 20})
		store.free = 2 << 20
		ref := src.name(appName, src.image(t, amd64, big))
		small := src.name("registry.example/small:v1", src.image(t, amd64, random(2, 1000)))
		other, err := store.Ingest(t.Context(), ocispec.Descriptor{Digest: digestOf(big), Size: 8 << 20})
		require.NoError(t, err)
		rt := newRuntime(t, transfer.Config{Source: src, Store: store})
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

// The ingest of a huge blob never begins in an endlessStore.
type endlessStore struct{ *memStore }

func (s endlessStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if desc.Size > 1<<40 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.memStore.Ingest(ctx, desc)
}

// The sizes that several manifests name may add up to more than an int64 holds.
func TestSizesThatOverflowCountAsTooLittleRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		store.free = math.MaxInt64 - 1
		rt := newRuntime(t, transfer.Config{Source: src, Store: endlessStore{store}})
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
			default: // the pull waits in the Store
			}
		}
		assert.Equal(t, 2, full, "there is room for one")
	})
}

// A blob that is resumed needs a buffer to read kept bytes back. The connections of other
// blobs must not have put all buffers into their queues before that.
func TestABlobResumesWithLittleMemory(t *testing.T) {
	var layers [][]byte
	for i := range 16 {
		layers = append(layers, random(uint64(i+1), 3<<20))
	}
	for round := range rounds.Of(12) {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			src.latency, src.readSize = time.Duration(round)*time.Millisecond, 64<<10
			src.perRead = time.Duration(1+3*round%13) * time.Millisecond
			rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxMemory: 1 << 20, MaxBlobs: 7 + round%7})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			var wg sync.WaitGroup
			var refs []reference.Reference
			for i, layer := range layers {
				store.keep(t, layer, [2]int64{0, 512 << 10})
				refs = append(refs, src.name(fmt.Sprintf("registry.example/app-%d:v1", i), src.image(t, amd64, layer)))
			}
			for _, ref := range refs {
				wg.Go(func() {
					_, err := rt.Pull(ctx, spec(ref))
					assert.NoError(t, err, "round %d", round)
				})
			}
			wg.Wait()
			store.clean(t)
		})
	}
}

// Large blobs of many pulls, over many connections, share the smallest possible memory.
func TestManyLargeBlobsArriveWithLittleMemory(t *testing.T) {
	for _, blobs := range []int{10, 1, 64}[:rounds.Of(3)] {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			src.latency, src.perRead, src.readSize = 20*time.Millisecond, 3*time.Millisecond, 64<<10
			rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxMemory: 1, MaxBlobs: blobs, MaxConnsPerBlob: 16})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			var wg sync.WaitGroup
			var refs []reference.Reference
			for i := range 40 {
				image := src.image(t, amd64, random(uint64(i)+1, 2<<20+i<<14), random(uint64(i)+1000, 50))
				refs = append(refs, src.name(fmt.Sprintf("registry.example/app-%d:v1", i), image))
			}
			for _, ref := range refs {
				for range 5 {
					wg.Go(func() {
						_, err := rt.Pull(ctx, spec(ref))
						assert.NoError(t, err)
					})
				}
			}
			wg.Wait()
			for d, n := range store.ingests {
				assert.Equal(t, 1, n, "ingests of %s", d)
			}
			store.clean(t)
		})
	}
}

// A caller that needs no limit may give the largest number.
func TestTheLargestLimitsWork(t *testing.T) {
	for _, conf := range []transfer.Config{
		{MaxMemory: math.MaxInt64}, {MaxBlobs: math.MaxInt}, {MaxConnsPerBlob: math.MaxInt}, {MaxMemory: 1, MaxBlobs: 1, MaxConnsPerBlob: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			ref := src.name(appName, src.image(t, amd64, random(1, 3<<20), random(2, 100)))
			conf.Source, conf.Store = src, store
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := newRuntime(t, conf).Pull(ctx, spec(ref))
			require.NoError(t, err)
			store.clean(t)
		})
	}
}

func TestNegativeLimitsAreRefused(t *testing.T) {
	for field, conf := range map[string]transfer.Config{
		"MaxMemory": {MaxMemory: -1}, "MaxBlobs": {MaxBlobs: -1}, "MaxConnsPerBlob": {MaxConnsPerBlob: -1},
	} {
		rt, err := transfer.New(conf)
		assert.Nil(t, rt)
		assert.EqualError(t, err, "transfer: Config."+field+" is -1; give a positive number, or zero for the default")
	}
}
