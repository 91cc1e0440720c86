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
	layer := random(1, 160<<20)
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency, src.perRead, src.readSize = 20*time.Millisecond, 8*time.Millisecond, 64<<10 // 8 MB/s each
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
