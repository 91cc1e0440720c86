package transfer_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A Source fails when it is asked for a part of a blob. Then the whole blob is asked for,
// so that kept bytes do not make every later pull fail. A Source that fails at the whole
// blob as well is not asked again.
func TestTheWholeBlobIsFetchedIfTheSourceRefusesParts(t *testing.T) {
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
					return nil, 0, &content.Error{Reason: content.ErrRange}
				}
				return nil, 0, nil
			}
			_, err := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 1}).Pull(t.Context(), spec(ref))
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

// A server allows one connection, and refuses the second one only after the first one has
// ended. The bytes that the second connection should have fetched are asked for once
// more.
func TestTheShareOfARefusedConnectionIsFetched(t *testing.T) {
	for kind, want := range map[content.Reason]bool{content.ErrRateLimited: true, content.ErrNetwork: true, content.ErrStatus: true, content.ErrDenied: false} {
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
				return &content.Error{Reason: kind}
			}}
			_, err := newRuntime(t, transfer.Config{Source: single, Store: store}).Pull(t.Context(), spec(ref))
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

// A large blob that started first uses all connections. It gives them up for other large
// blobs, so that as many as Config.MaxBlobs says are fetched at once.
func TestALargeBlobGivesConnectionsToOthers(t *testing.T) {
	layer := random(1, 80<<20)
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency, src.perRead, src.readSize = 20*time.Millisecond, 8*time.Millisecond, 32<<10 // 4 MB/s each
		first := src.name(appName, src.image(t, amd64, layer))
		var others []reference.Reference
		for i := range 3 {
			image := src.image(t, amd64, random(uint64(i+2), 3<<20))
			others = append(others, src.name(fmt.Sprintf("registry.example/app-%d:v1", i), image))
		}
		rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxBlobs: 4})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var ends []time.Duration
		began := time.Now()
		wg.Go(func() {
			_, err := rt.Pull(t.Context(), spec(first))
			assert.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			for _, end := range ends {
				assert.Less(t, end, time.Since(began)*4/5, "the other blobs end long before the first one")
			}
			assert.Len(t, ends, 3)
		})
		time.Sleep(1200 * time.Millisecond)
		src.mu.Lock()
		assert.GreaterOrEqual(t, src.most, 7, "the first blob used all connections")
		src.mu.Unlock()
		for _, ref := range others {
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(ref))
				assert.NoError(t, err)
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, time.Since(began))
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, src.most, 8+1, "connections at once")
		store.clean(t)
	})
}

// A small image does not wait for the end of large blobs, even if few blobs may be
// fetched at once.
func TestASmallImageDoesNotWaitForLargeBlobs(t *testing.T) {
	var layers [][]byte
	for i := range 12 {
		layers = append(layers, random(uint64(i+1), 4<<20))
	}
	for _, blobs := range []int{1, 2, 10} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			src.latency, src.perRead, src.readSize = 20*time.Millisecond, 100*time.Millisecond, 64<<10 // 6.4 s a layer
			large := src.name(appName, src.image(t, amd64, layers...))
			small := src.name("registry.example/small:v1", src.image(t, amd64, random(100, 1000), random(101, 1000)))
			rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxBlobs: blobs, MaxConnsPerBlob: 1})
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(large))
				assert.NoError(t, err)
			})
			time.Sleep(3 * time.Second)
			began := time.Now()
			_, err := rt.Pull(t.Context(), spec(small))
			assert.NoError(t, err)
			assert.Less(t, time.Since(began), time.Second, "%d blobs", blobs)
			wg.Wait()
			assert.LessOrEqual(t, src.most, blobs+1)
			store.clean(t)
		})
	}
}
