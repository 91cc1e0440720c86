package layout_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A countingDisk is a disk in memory that counts operations, and for some of them the base
// name of the file too.
type countingDisk struct {
	*switchDisk
	mem *disktest.Disk

	mu     sync.Mutex
	counts map[string]int
}

func openCounting(t *testing.T) (*layout.Layout, *countingDisk) {
	mem := disktest.New()
	c := &countingDisk{mem: mem, counts: make(map[string]int)}
	c.switchDisk = newSwitchDisk(disktest.Before(mem.Process(), func(op, name string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.counts[op]++
		c.counts[op+" "+path.Base(name)]++
		return nil
	}))
	l, err := layout.OpenDisk("mem", c, layout.Config{})
	require.NoError(t, err)
	return l, c
}

// count returns how often an operation was performed.
func (c *countingDisk) count(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[op]
}

// syncs returns how often anything was synced.
func (c *countingDisk) syncs() int { return c.count("sync") + c.count("syncdir") + c.count("syncfs") }

// Tags that wait while another process has the lock are written together. Tags whose ctx
// ended are not written.
func TestTagsAreWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d := openCounting(t)
		data, desc := blobOf(1, 100)
		store(t, l, desc, data)
		unlock, err := d.mem.Process().TryLock(lockName, indexLock)
		require.NoError(t, err)
		before := d.count("rename " + indexName)
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
		assert.Equal(t, before+1, d.count("rename "+indexName), "one write for all of them")
		images, err := l.List(t.Context())
		require.NoError(t, err)
		assert.Len(t, images, 40)
	})
}

// holdCommits starts a commit of another blob that does not end before release is called.
// Commits that start before the release wait, and are then done together. The layout must
// be in a bubble of synctest. What d did before an operation is not called until then.
func holdCommits(t *testing.T, l *layout.Layout, d *switchDisk, seed int) (release func() error) {
	t.Helper()
	data, desc := blobOf(seed, 10)
	gate := make(chan struct{})
	in := begin(t, l, desc, data)
	was := d.before.Load()
	d.set(func(op, name string) error {
		if op == "sync" && name == partName(desc.Digest) {
			<-gate
		}
		return nil
	})
	done := make(chan error)
	go func() { done <- in.Commit(t.Context()) }()
	synctest.Wait()
	d.before.Store(was)
	return func() error {
		synctest.Wait() // until the other commits wait
		close(gate)
		return <-done
	}
}

// commitTogether commits n blobs that are ready at the same time, and returns by how much
// count grew from their commits alone.
func commitTogether(t *testing.T, l *layout.Layout, d *switchDisk, seed *int, n int, count func() int) int {
	t.Helper()
	*seed++
	release := holdCommits(t, l, d, *seed)
	var wg sync.WaitGroup
	for range n {
		*seed++
		data, desc := blobOf(*seed, 100)
		in := begin(t, l, desc, data)
		wg.Go(func() { assert.NoError(t, in.Commit(t.Context())) })
	}
	synctest.Wait()
	before := count()
	require.NoError(t, release())
	wg.Wait()
	return count() - before
}

// Three or more blobs that are ready together share one sync of their content. After a sync
// of the whole file system that took long, each blob has its own for a while.
func TestBlobsThatAreReadyTogetherShareOneSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d := openCounting(t)
		data, desc := blobOf(0, 100)
		store(t, l, desc, data) // the first commit also syncs the files of a new layout
		seed := 0
		commit := func(n int) (shared bool) {
			t.Helper()
			whole := d.count("syncfs")
			each := commitTogether(t, l, d.switchDisk, &seed, n, func() int { return d.count("sync") }) - 1 // without the held commit
			whole = d.count("syncfs") - whole
			if whole > 0 {
				assert.Equal(t, [2]int{1, 0}, [2]int{whole, each}, "one sync for all")
			} else {
				assert.Equal(t, n, each, "one sync for each")
			}
			return whole > 0
		}
		for n := 3; n <= 40; n += 9 {
			assert.True(t, commit(n), "%d blobs", n)
		}
		d.set(func(op, _ string) error {
			if op == "syncfs" {
				time.Sleep(time.Second) // in the bubble
			}
			return nil
		})
		assert.True(t, commit(5))
		d.set(nil)
		assert.False(t, commit(3), "other programs write much")
		again := false
		for range 500 {
			again = again || commit(3)
		}
		assert.True(t, again, "a shared sync is tried again")
		entries, err := d.ReadDir(blobsDir + "/sha256")
		require.NoError(t, err)
		assert.Len(t, entries, 1+seed)
	})
}

// An image whose blobs arrive within a few milliseconds of one another is stored in a new
// directory with at most five syncs, from Open to the end of Tag.
func TestANewImageInANewDirectoryTakesAtMostFiveSyncs(t *testing.T) {
	for layers := 1; layers < 12; layers += 2 {
		synctest.Test(t, func(t *testing.T) {
			l, d := openCounting(t)
			sizes := make([]int, layers)
			for i := range sizes {
				sizes[i] = 100 + i
			}
			img := newTestImage(t, "registry.example/team/app:v1", 1, sizes...)
			all := img.all[:len(img.all)-1] // without the index
			var arriving []content.Ingest
			for _, desc := range all {
				arriving = append(arriving, begin(t, l, desc, img.data[desc.Digest]))
			}
			var wg sync.WaitGroup
			for _, in := range arriving {
				wg.Go(func() { assert.NoError(t, in.Commit(t.Context())) })
				time.Sleep(time.Millisecond) // in the bubble
			}
			wg.Wait()
			require.NoError(t, l.Tag(t.Context(), img.ref, img.manifest))
			assert.LessOrEqual(t, d.syncs(), 5, "%d layers", layers)
		})
	}
}

// A volatile layout syncs nothing, and another process finds what is stored in it.
func TestAVolatileLayoutSyncsNothing(t *testing.T) {
	mem := disktest.New()
	syncs := 0
	fsys := disktest.Before(mem.Process(), func(op, _ string) error {
		if strings.HasPrefix(op, "sync") {
			syncs++
		}
		return nil
	})
	l, err := layout.OpenDisk("mem", fsys, layout.Config{Volatile: true})
	require.NoError(t, err)
	img := newTestImage(t, "registry.example/team/app:v1", 1, 10, 5000, 1<<20)
	for _, desc := range img.all {
		require.NoError(t, begin(t, l, desc, img.data[desc.Digest]).Commit(t.Context()))
	}
	require.NoError(t, l.Tag(t.Context(), img.ref, img.manifest))
	assert.Zero(t, syncs)
	again, err := layout.OpenDisk("mem", mem.Process(), layout.Config{})
	require.NoError(t, err)
	for _, desc := range img.all {
		ok, err := again.Has(t.Context(), desc)
		require.NoError(t, err)
		assert.True(t, ok, desc.Digest)
	}
}

// A commit does not wait if no other blob is on its way, and waits only a short time for
// one that never comes.
func TestACommitWaitsBrieflyForOtherBlobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := openCounting(t)
		commit := func(seed int) time.Duration {
			data, desc := blobOf(seed, 100)
			in := begin(t, l, desc, data)
			start := time.Now()
			require.NoError(t, in.Commit(t.Context()))
			return time.Since(start)
		}
		assert.Zero(t, commit(1), "the first blob of a layout")
		_, stuck := blobOf(2, 100)
		in, err := l.Ingest(t.Context(), stuck)
		require.NoError(t, err)
		for seed := 3; seed < 10; seed++ {
			assert.LessOrEqual(t, commit(seed), 20*time.Millisecond)
		}
		require.NoError(t, in.Close())
		assert.Zero(t, commit(10))
	})
	synctest.Test(t, func(t *testing.T) {
		l, d := openCounting(t)
		data, desc := blobOf(1, 100)
		_, stuck := blobOf(2, 100)
		_, err := l.Ingest(t.Context(), stuck)
		require.NoError(t, err)
		in := begin(t, l, desc, data)
		start := time.Now()
		require.NoError(t, in.Commit(t.Context()))
		assert.LessOrEqual(t, time.Since(start), 20*time.Millisecond, "the first commit, while another blob is on its way")
		seed := 100
		start = time.Now()
		commitTogether(t, l, d.switchDisk, &seed, 4, d.syncs)
		assert.LessOrEqual(t, time.Since(start), 40*time.Millisecond)
	})
}

// A Tag that fails before it writes leaves nothing behind that stops the next one.
func TestATagAfterAFailedTagSucceeds(t *testing.T) {
	l, d := openCounting(t)
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	stopped := errors.New("stopped")
	d.set(func(op, _ string) error {
		if op == "lock" {
			return stopped
		}
		return nil
	})
	require.ErrorIs(t, l.Tag(t.Context(), reference.MustParse("registry.example/a:v1"), desc), stopped)
	d.set(nil)
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/b:v1"), desc))
	images, err := l.List(t.Context())
	require.NoError(t, err)
	require.Len(t, images, 1, "the name whose Tag failed is not written later")
	assert.Equal(t, "registry.example/b:v1", images[0].Ref.String())
}

// If a commit panics, the commit that is done with it gets an error, no caller waits for
// ever, and other blobs can be stored.
func TestAPanicInACommitReachesEveryCaller(t *testing.T) {
	data, desc := blobOf(2, 100)
	for op, file := range map[string]string{"sync": partName(desc.Digest), "rename": ocilayout.BlobName(desc.Digest)} {
		synctest.Test(t, func(t *testing.T) {
			l, d := openCounting(t)
			d.set(func(o, name string) error {
				if o == op && name == file {
					panic("in the disk")
				}
				return nil
			})
			release := holdCommits(t, l, d.switchDisk, 1)
			otherData, other := blobOf(3, 100)
			var panicked, failed atomic.Int64
			var wg sync.WaitGroup
			for _, in := range []content.Ingest{begin(t, l, desc, data), begin(t, l, other, otherData)} {
				wg.Go(func() {
					defer func() {
						if recover() != nil {
							panicked.Add(1)
						}
					}()
					if in.Commit(t.Context()) != nil {
						failed.Add(1)
					}
				})
			}
			require.NoError(t, release())
			wg.Wait()
			assert.Equal(t, [2]int64{1, 1}, [2]int64{panicked.Load(), failed.Load()}, op)
			data, desc := blobOf(9, 100)
			store(t, l, desc, data)
		})
	}
}

// If a Tag panics before it takes the Tags that wait, these go on without it.
func TestATagAfterAPanicInATagSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, d := openCounting(t)
		data, desc := blobOf(1, 100)
		store(t, l, desc, data)
		unlock, err := d.mem.Process().TryLock(lockName, indexLock)
		require.NoError(t, err)
		var panicked, tagged atomic.Int64
		var wg sync.WaitGroup
		for i := range 2 {
			ref := reference.MustParse(fmt.Sprintf("registry.example/app%d:v1", i))
			wg.Go(func() {
				defer func() {
					if recover() != nil {
						panicked.Add(1)
					}
				}()
				if assert.NoError(t, l.Tag(t.Context(), ref, desc)) {
					tagged.Add(1)
				}
			})
		}
		synctest.Wait()
		var once sync.Once
		d.set(func(_, name string) error {
			if name == indexName {
				once.Do(func() { panic("in the disk") })
			}
			return nil
		})
		require.NoError(t, unlock())
		wg.Wait()
		assert.Equal(t, [2]int64{1, 1}, [2]int64{panicked.Load(), tagged.Load()})
		images, err := l.List(t.Context())
		require.NoError(t, err)
		assert.Len(t, images, 1)
	})
}
