package transfer_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A watcher checks the rules of Spec.Progress.
type watcher struct {
	t      *testing.T
	inside bool
	over   bool
	last   map[digest.Digest]puller.Progress
	total  puller.Progress
	calls  int
	states map[puller.BlobState]int
	times  []time.Time
}

func newWatcher(t *testing.T) *watcher {
	return &watcher{t: t, last: map[digest.Digest]puller.Progress{}, states: map[puller.BlobState]int{}}
}

func (w *watcher) tell(p puller.Progress) {
	assert.False(w.t, w.inside, "the calls do not overlap")
	assert.False(w.t, w.over, "no call comes after Pull has returned")
	w.inside = true
	defer func() { w.inside = false }()
	w.calls++
	w.states[p.State]++
	w.times = append(w.times, time.Now())
	assert.LessOrEqual(w.t, p.Done, p.Blob.Size)
	assert.LessOrEqual(w.t, p.Resumed, p.Done)
	assert.LessOrEqual(w.t, p.TotalDone, p.Total)
	assert.LessOrEqual(w.t, p.TotalResumed, p.TotalDone)
	assert.Positive(w.t, p.Total)
	assert.Equal(w.t, w.calls == 1, p.Manifest != nil, "the manifest is in the first report")
	if p.Manifest != nil {
		assert.Equal(w.t, p.Manifest.Digest, digestOf(p.Manifest.Data))
		assert.EqualValues(w.t, len(p.Manifest.Data), p.Manifest.Size)
		assert.NotEmpty(w.t, p.Manifest.MediaType)
	}
	if p.State != puller.BlobRestarted {
		assert.GreaterOrEqual(w.t, p.Done, w.last[p.Blob.Digest].Done, "of the blob")
		assert.GreaterOrEqual(w.t, p.TotalDone, w.total.TotalDone, "of all")
	}
	w.last[p.Blob.Digest], w.total = p, p
}

func TestProgressReachesTheTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.perRead, src.readSize = 10*time.Millisecond, 64<<10
		big, small, kept, there := random(1, 10<<20), random(2, 1<<20), random(3, 500<<10), random(4, 1000)
		ref := src.name(appName, src.image(t, amd64, big, small, kept, there))
		store.keep(t, kept, [2]int64{0, 300 << 10})
		store.put(t, there)
		w := newWatcher(t)
		s := spec(ref)
		s.Progress = w.tell
		began := time.Now()
		_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), s)
		w.over = true
		require.NoError(t, err)
		took := time.Since(began)
		assert.Equal(t, w.total.Total, w.total.TotalDone)
		assert.EqualValues(t, 300<<10+1000, w.total.TotalResumed, "the bytes that were not fetched")
		assert.EqualValues(t, 300<<10, w.last[digestOf(kept)].Resumed)
		assert.Equal(t, puller.BlobPresent, w.last[digestOf(there)].State)
		assert.Equal(t, puller.BlobStored, w.last[digestOf(big)].State)
		assert.Equal(t, 4, w.states[puller.BlobStored], "config and three layers")
		assert.Greater(t, w.states[puller.BlobFetching], 3)
		assert.LessOrEqual(t, w.states[puller.BlobFetching], 4*int(took/(100*time.Millisecond)), "at most every 100 ms for each blob")
		time.Sleep(time.Second)
	})
}

func TestARestartIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.perRead, src.readSize = 10*time.Millisecond, 64<<10
		layer := random(1, 3<<20)
		ref := src.name(appName, src.image(t, amd64, layer))
		store.keepAs(t, digestOf(layer), flipped(layer, 5), [2]int64{0, 1 << 20})
		w := newWatcher(t)
		s := spec(ref)
		s.Progress = w.tell
		_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, 1, w.states[puller.BlobRestarted])
		assert.Zero(t, w.total.TotalResumed, "the kept bytes were wrong and came again")
		assert.Equal(t, w.total.Total, w.total.TotalDone)
	})
}

// Bytes that were reported as resumed are taken back only with a BlobRestarted, even if
// the blob came fast after its restart.
func TestResumedBytesAreTakenBackOnlyWithARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		layer := random(1, 3<<20)
		ref := src.name(appName, src.image(t, amd64, layer))
		store.keepAs(t, digestOf(layer), flipped(layer, 5), [2]int64{0, 1 << 20})
		slow := hookSource{src, func(ctx context.Context, _ ocispec.Descriptor, off int64) error {
			if off > 0 {
				return pause(ctx, 350*time.Millisecond)
			}
			return nil
		}}
		w := newWatcher(t)
		var resumed, total int64
		s := spec(ref)
		s.Progress = func(p puller.Progress) {
			w.tell(p)
			if p.State != puller.BlobRestarted && p.Blob.Digest == digestOf(layer) {
				assert.GreaterOrEqual(t, p.Resumed, resumed, "%s", p.State)
				assert.GreaterOrEqual(t, p.TotalResumed, total, "%s", p.State)
			}
			resumed, total = p.Resumed, p.TotalResumed
		}
		_, err := newRuntime(t, transfer.Config{Source: slow, Store: store}).Pull(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, 1, w.states[puller.BlobRestarted])
		assert.Equal(t, w.total.Total, w.total.TotalDone)
		assert.Zero(t, w.total.TotalResumed)
	})
}

// A config that was fetched to learn the platform is reported like other blobs.
func TestAConfigThatIsFetchedFirstIsReported(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	ref := src.name(appName, src.image(t, amd64, random(1, 1000)))
	rt := newRuntime(t, transfer.Config{Source: src, Store: store, RequirePlatform: true})
	for _, state := range []puller.BlobState{puller.BlobStored, puller.BlobPresent} {
		w := newWatcher(t)
		s := spec(ref)
		s.Progress = w.tell
		_, err := rt.Pull(t.Context(), s)
		require.NoError(t, err)
		assert.Equal(t, map[puller.BlobState]int{"": 1, state: 2}, w.states)
		assert.Equal(t, w.total.Total, w.total.TotalDone)
	}
}
