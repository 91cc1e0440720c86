package transfer_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
)

// A large blob that came first, over all connections there may be, gives them up
// to others: as many as Config.Blobs says are fetched at once.
func TestConnectionsAreForBlobsFirst(t *testing.T) {
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
		rt := transfer.New(transfer.Config{Source: src, Store: store, Blobs: 4})
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
				assert.Less(t, end, time.Since(began)*4/5, "long before the first")
			}
			assert.Len(t, ends, 3)
		})
		time.Sleep(1200 * time.Millisecond)
		src.mu.Lock()
		assert.GreaterOrEqual(t, src.most, 7, "the first has them all")
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

// A small image does not wait for the end of large blobs, however few may come at once.
func TestSmallBlobsBesideLargeOnes(t *testing.T) {
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
			rt := transfer.New(transfer.Config{Source: src, Store: store, Blobs: blobs, Ranges: 1})
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
