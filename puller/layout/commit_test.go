package layout

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// countingMem returns a layout in memory, and a function that counts operations by their
// name and the base name of the file.
func countingMem(t *testing.T, before func(op string)) (*Layout, *disktest.Disk, func(string) int) {
	var mu sync.Mutex
	counts := make(map[string]int)
	mem := disktest.New()
	l, err := openFS("mem", disktest.Before(mem.Process(), func(op, name string) error {
		mu.Lock()
		counts[op+" "+path.Base(name)]++
		counts[op]++
		mu.Unlock()
		if before != nil {
			before(op)
		}
		return nil
	}),

		Config{})
	require.NoError(t, err)
	return l, mem, func(key string) int {
		mu.Lock()
		defer mu.Unlock()
		return counts[key]
	}
}

// Tags that wait while another process has the lock are written together. Tags whose ctx
// ended are not written.
func TestTagsAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, mem, count := countingMem(t, nil)
		data, desc := blobOf(1, 100)
		store(t, l, desc, data)
		unlock, err := (mem.Process()).TryLock(lockName, indexLock)
		require.NoError(t, err)
		before := count("rename " + indexName)
		gaveUp, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var written atomic.Int64
		for i := range 50 {
			ref := reference.MustParse(fmt.Sprintf("registry.example/app%d:v1", i))
			ctx := t.Context()
			if i%5 == 0 {
				ctx = gaveUp
			}
			wg.Go(func() {
				err := l.Tag(ctx, ref, desc)
				if i%5 == 0 {
					assert.ErrorIs(t, err, context.Canceled)
				} else if assert.NoError(t, err) {
					written.Add(1)
				}
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.NoError(t, unlock())
		wg.Wait()
		assert.Equal(t, int64(40), written.Load())
		assert.Equal(t, before+1, count("rename "+indexName), "one write for all of them")
		images, err := l.List(t.Context())
		require.NoError(t, err)
		assert.Len(t, images, 40)
	})
}

// holdCommits starts a commit of another blob that does not end before release is called.
// Commits that start before the release wait, and are then done together. The layout must
// be in a bubble of synctest.
func holdCommits(t *testing.T, l *Layout, seed int) (release func() error) {
	t.Helper()
	data, desc := blobOf(seed, 10)
	gate, held := make(chan struct{}), l.fs
	l.fs = disktest.Before(held, func(op, name string) error {
		if op == "sync" && name == partName(desc.Digest) {
			<-gate
		}
		return nil
	})
	in := begin(t, l, desc, data)
	l.fs = held
	done := make(chan error)
	go func() { done <- in.Commit(t.Context()) }()
	synctest.Wait()
	return func() error {
		synctest.Wait() // until the other commits wait
		close(gate)
		return <-done
	}
}

// Blobs that are complete at the same time share one sync of the file system. If that
// sync is slow, each of the next blobs gets its own sync for a while.
func TestBlobsAreSyncedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := time.Duration(0)
		l, _, count := countingMem(t, func(op string) {
			if op == "syncfs" {
				time.Sleep(slow) // in the bubble
			}
		})
		seed := 0
		commit := func(n int) (together, alone int) {
			seed++
			release := holdCommits(t, l, seed)
			var wg sync.WaitGroup
			for range n {
				seed++
				data, desc := blobOf(seed, 100)
				in := begin(t, l, desc, data)
				wg.Go(func() { assert.NoError(t, in.Commit(t.Context())) })
			}
			synctest.Wait()
			together, alone = count("syncfs"), count("sync")
			require.NoError(t, release())
			wg.Wait()
			return count("syncfs") - together, count("sync") - alone - 1 // without the sync of the held commit
		}
		expect := func(n, wantTogether, wantAlone int, why string) {
			t.Helper()
			together, alone := commit(n)
			assert.Equal(t, []int{wantTogether, wantAlone}, []int{together, alone}, why)
		}
		_, _ = commit(1) // the first commit of a process also syncs oci-layout
		expect(5, 1, 0, "one for all")
		expect(2, 0, 2, "two are not worth it")
		slow = time.Second
		expect(5, 1, 0, "this one takes long")
		for range syncFSPause {
			expect(3, 0, 3, "it took long")
		}
		expect(3, 1, 0, "it is tried again")
		entries, err := l.fs.ReadDir(blobsDir + "/sha256")
		require.NoError(t, err)
		assert.Len(t, entries, seed)
	})
}

// The commits of an image in a new layout are done together, although its blobs arrive one
// after the other.
func TestCommitsOfTheFirstImageAreDoneTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, count := countingMem(t, nil)
		together, alone, dirs := count("syncfs"), count("sync"), count("syncdir sha256")
		var arriving []content.Ingest
		for seed := range 3 {
			data, desc := blobOf(seed, 100)
			arriving = append(arriving, begin(t, l, desc, data))
		}
		var wg sync.WaitGroup
		for _, in := range arriving {
			wg.Go(func() { assert.NoError(t, in.Commit(t.Context())) })
			time.Sleep(firstLinger / 4) // in the bubble
		}
		wg.Wait()
		assert.Equal(t, []int{1, 0, 1}, []int{count("syncfs") - together, count("sync") - alone, count("syncdir sha256") - dirs})
	})
}

func TestBatchPassesTheTurnOn(t *testing.T) {
	b := newBatch[int](noneArrives)
	stopped := errors.New("stopped")
	err := b.do(t.Context(), b.add(1), func(context.Context, func() []*job[int]) error { return stopped })
	require.ErrorIs(t, err, stopped)
	assert.Empty(t, b.wait)
	done := 0
	require.NoError(t, b.do(t.Context(), b.add(2), func(_ context.Context, take func() []*job[int]) error {
		done = len(take())
		return nil
	}))
	assert.Equal(t, 1, done)
}

// noneArrives is the over function of a batch that expects no other callers.
func noneArrives() <-chan struct{} { return nil }

// A turn waits a little if other callers are expected, until none is expected. It does not
// wait if the last turn had only one job.
func TestTurnWaitsForExpectedCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var expected arrivals
		b := newBatch[int](expected.over)
		turn := func(want int) (waited time.Duration) {
			start := time.Now()
			require.NoError(t, b.do(t.Context(), b.add(0), func(_ context.Context, take func() []*job[int]) error {
				waited = time.Since(start)
				assert.Len(t, take(), want)
				return nil
			}))
			return waited
		}
		expected.begin()
		assert.Equal(t, firstLinger, turn(1), "the first turn")
		assert.Zero(t, turn(1), "one after the other")
		b.turn <- struct{}{}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				assert.NoError(t, b.do(t.Context(), b.add(0), func(_ context.Context, take func() []*job[int]) error {
					assert.Len(t, take(), 2)
					return nil
				}))
			})
		}
		synctest.Wait()
		<-b.turn
		wg.Wait()
		expected.begin()
		time.AfterFunc(linger/4, expected.end)
		assert.Equal(t, linger, turn(1), "one more is expected")
		b.last = 2
		time.AfterFunc(linger/4, expected.end)
		assert.Equal(t, linger/4, turn(1), "then none is expected")
		b.last = 2
		assert.Zero(t, turn(1))
	})
}

// If the work panics, the other callers of the same work get an error, and no caller
// waits for ever.
func TestAPanicOfABatchReleasesItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, before := range []bool{true, false} {
			b := newBatch[int](noneArrives)
			b.turn <- struct{}{} // so that both wait
			var failed, panicked atomic.Int64
			first := atomic.Bool{}
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					defer func() {
						if recover() != nil {
							panicked.Add(1)
						}
					}()
					err := b.do(t.Context(), b.add(0), func(_ context.Context, take func() []*job[int]) error {
						if !first.CompareAndSwap(false, true) {
							assert.Len(t, take(), 1, "of the one that is left")
							return nil
						}
						if !before {
							assert.Len(t, take(), 2)
						}
						panic("in the work")
					})
					if err != nil {
						assert.ErrorIs(t, err, errAbandoned)
						failed.Add(1)
					}
				})
			}
			synctest.Wait()
			<-b.turn
			wg.Wait()
			assert.Equal(t, int64(1), panicked.Load())
			assert.Equal(t, !before, failed.Load() == 1)
			assert.Empty(t, b.wait)
			assert.Empty(t, b.turn)
		}
	})
}
