package transfer_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Blobs that go on from what was kept need a buffer to read it back. Connections
// that have reached the same place must not have queued all of them by then.
func TestResumeWithLittleMemory(t *testing.T) {
	var layers [][]byte
	for i := range 16 {
		layers = append(layers, random(uint64(i+1), 3<<20))
	}
	for round := range rounds.Of(12) {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			src.latency, src.readSize = time.Duration(round)*time.Millisecond, 64<<10
			src.perRead = time.Duration(1+3*round%13) * time.Millisecond
			rt := transfer.New(transfer.Config{Source: src, Store: store, Memory: 1 << 20, Blobs: 7 + round%7})
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

// Large blobs of many pulls, over many connections, share the least memory there is.
func TestManyLargeBlobsWithLittleMemory(t *testing.T) {
	for _, blobs := range []int{10, 1, 64}[:rounds.Of(3)] {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			src.latency, src.perRead, src.readSize = 20*time.Millisecond, 3*time.Millisecond, 64<<10
			rt := transfer.New(transfer.Config{Source: src, Store: store, Memory: 1, Blobs: blobs, Ranges: 16})
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

// Who wants no limit says so with the largest number there is.
func TestHugeLimits(t *testing.T) {
	for _, conf := range []transfer.Config{
		{Memory: math.MaxInt64}, {Blobs: math.MaxInt}, {Ranges: math.MaxInt}, {Memory: -1, Blobs: -1, Ranges: -1},
	} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			ref := src.name(appName, src.image(t, amd64, random(1, 3<<20), random(2, 100)))
			conf.Source, conf.Store = src, store
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := transfer.New(conf).Pull(ctx, spec(ref))
			require.NoError(t, err)
			store.clean(t)
		})
	}
}
