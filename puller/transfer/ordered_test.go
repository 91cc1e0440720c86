package transfer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A store that takes bytes only in order gets a slow blob over one connection. Other blobs are
// fetched in parallel.
func TestABlobThatIsStoredInOrderComesOverOneConnection(t *testing.T) {
	const size = 64 << 20
	synctest.Test(t, func(t *testing.T) {
		src := newFakeSource()
		src.latency, src.perRead, src.readSize = 20*time.Millisecond, time.Millisecond, 64<<10 // 64 MB/s each
		layers := [][]byte{random(1, size), random(2, 32<<20)}
		ref := src.name(appName, src.image(t, amd64, layers...))
		rt := newRuntime(t, transfer.Config{Source: src, Store: &pullertest.MemStore{InOrder: true}})
		began := time.Now()
		_, err := rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		for _, layer := range layers {
			assert.Equal(t, 1, src.blobGets[digestOf(layer)])
			assert.Contains(t, src.asked, asked{digestOf(layer), 0, -1})
		}
		assert.Less(t, time.Since(began), 1100*time.Millisecond, "both layers come at the same time; one takes 1.02 s")
		_, err = rt.Status(t.Context(), spec(ref))
		require.NoError(t, err)
		require.NoError(t, rt.Idle())
	})
}

// Two Runtimes, as of two processes, share a store that takes bytes only in order. Each blob is
// fetched once. If the first Runtime ends in the middle of a blob, the second goes on there.
func TestTwoRuntimesFetchABlobThatIsStoredInOrderOnce(t *testing.T) {
	for _, size := range sizes {
		for _, firstEnds := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				src, store := newFakeSource(), &pullertest.MemStore{InOrder: true}
				src.perRead, src.readSize = 10*time.Millisecond, size/20
				layer := random(1, size)
				ref := src.name(appName, src.image(t, amd64, layer))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if firstEnds {
					time.AfterFunc(100*time.Millisecond, cancel)
				}
				var wg sync.WaitGroup
				for i := range 2 {
					wg.Go(func() {
						pullCtx := t.Context()
						if i == 0 {
							pullCtx = ctx
						}
						time.Sleep(time.Duration(i) * time.Millisecond)
						rt := newRuntime(t, transfer.Config{Source: src, Store: store})
						_, err := rt.Pull(pullCtx, spec(ref))
						if i == 0 && firstEnds {
							assert.ErrorIs(t, err, context.Canceled)
						} else {
							assert.NoError(t, err)
						}
						assert.NoError(t, rt.Idle())
					})
				}
				wg.Wait()
				has, err := store.Has(t.Context(), ocispec.Descriptor{Digest: digestOf(layer), Size: int64(size)})
				require.NoError(t, err)
				assert.True(t, has)
				if !firstEnds {
					assert.Equal(t, 1, src.blobGets[digestOf(layer)])
					return
				}
				assert.Equal(t, 2, src.blobGets[digestOf(layer)])
				assert.LessOrEqual(t, src.blobBytes, int64(size)*11/10+1000, "at most a tenth of the bytes comes twice")
			})
		}
	}
}

// A holdingStore counts who holds its content, and notes what happens while no caller does.
type holdingStore struct {
	*pullertest.MemStore
	mu     sync.Mutex
	held   int
	most   int
	unheld []string
	fail   error
}

func (s *holdingStore) Hold(context.Context) (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.held++
	s.most = max(s.most, s.held)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held--
	}), nil
}

func (s *holdingStore) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == 0 {
		s.unheld = append(s.unheld, what)
	}
}

func (s *holdingStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	s.note("ingest")
	return s.MemStore.Ingest(ctx, desc)
}

func (s *holdingStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	s.note("tag")
	return s.MemStore.Tag(ctx, ref, desc)
}

// Content is held from before the first question about a blob until the image has its name, even
// if the pull that started a fetch has left it. A call that stores nothing does not hold content.
func TestAPullHoldsContentUntilTheImageIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newFakeSource()
		src.perRead, src.readSize = 10*time.Millisecond, 100<<10
		ref := src.name(appName, src.image(t, amd64, random(1, 1<<20)))
		store := &holdingStore{MemStore: &pullertest.MemStore{InOrder: true}}
		rt := newRuntime(t, transfer.Config{Source: src, Store: store})
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := rt.Pull(first, spec(ref))
			assert.ErrorIs(t, err, context.Canceled)
		})
		wg.Go(func() {
			time.Sleep(time.Millisecond)
			_, err := rt.Pull(t.Context(), spec(ref))
			assert.NoError(t, err)
		})
		time.Sleep(30 * time.Millisecond)
		cancel()
		wg.Wait()
		assert.Equal(t, 2, store.most)
		assert.Empty(t, store.unheld)
		assert.Zero(t, store.held, "all was released, also by the pull that was cancelled")

		store.most = 0
		_, err := rt.Status(t.Context(), spec(ref))
		require.NoError(t, err)
		_, err = rt.Plan(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Zero(t, store.most)

		store.fail = errors.New("no lease today")
		before := src.requests()
		_, err = rt.Pull(t.Context(), spec(ref))
		assert.ErrorIs(t, err, content.ErrStore)
		assert.ErrorIs(t, err, store.fail)
		assert.Equal(t, before, src.requests(), "nothing is asked for")
	})
}
