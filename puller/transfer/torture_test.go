package transfer_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A saboteur acts at the k-th event.
type saboteur struct {
	mu   sync.Mutex
	n, k int
	act  func() error
}

func (s *saboteur) event() error {
	s.mu.Lock()
	s.n++
	hit := s.n == s.k
	s.mu.Unlock()
	if hit {
		return s.act()
	}
	return nil
}

// torturedSource and torturedStore make an event before each call and each read.
type torturedSource struct {
	*fakeSource
	s *saboteur
}

func (src torturedSource) Manifest(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
	if err := src.s.event(); err != nil {
		return content.Document{}, err
	}
	return src.fakeSource.Manifest(ctx, repo, have)
}

func (src torturedSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	if err := src.s.event(); err != nil {
		return content.Body{}, err
	}
	body, err := src.fakeSource.Blob(ctx, repo, desc, off, n)
	if err != nil {
		return content.Body{}, err
	}
	read := readFunc(func(p []byte) (int, error) {
		if err := src.s.event(); err != nil {
			return 0, err
		}
		return body.Read(p)
	})
	return content.Body{ReadCloser: struct {
		io.Reader
		io.Closer
	}{read, body}, Start: body.Start}, nil
}

type torturedStore struct {
	*memStore
	s *saboteur
}

func (st torturedStore) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if err := st.s.event(); err != nil {
		return false, err
	}
	return st.memStore.Has(ctx, d)
}

func (st torturedStore) Tag(ctx context.Context, ref reference.Reference, d ocispec.Descriptor) error {
	if err := st.s.event(); err != nil {
		return err
	}
	return st.memStore.Tag(ctx, ref, d)
}

func (st torturedStore) Ingest(ctx context.Context, d ocispec.Descriptor) (content.Ingest, error) {
	if err := st.s.event(); err != nil {
		return nil, err
	}
	in, err := st.memStore.Ingest(ctx, d)
	if err != nil {
		return nil, err
	}
	return torturedIngest{in, st.s}, nil
}

type torturedIngest struct {
	content.Ingest
	s *saboteur
}

func (in torturedIngest) WriteAt(p []byte, off int64) (int, error) {
	if err := in.s.event(); err != nil {
		return 0, err
	}
	return in.Ingest.WriteAt(p, off)
}

func (in torturedIngest) ReadAt(p []byte, off int64) (int, error) {
	if err := in.s.event(); err != nil {
		return 0, err
	}
	return in.Ingest.ReadAt(p, off)
}

func (in torturedIngest) Commit(ctx context.Context) error {
	if err := in.s.event(); err != nil {
		return err
	}
	return in.Ingest.Commit(ctx)
}

// At each event of a pull, the pull is cancelled, or a call fails. The pull ends at once, with
// that error or without an error, and leaves only partials. The next pull succeeds.
func TestTortureOfEachEvent(t *testing.T) {
	broken := errors.New("broken on purpose")
	for name, cancelled := range map[string]bool{"cancelled": true, "failed": false} {
		t.Run(name, func(t *testing.T) {
			layers := [][]byte{random(1, 3<<20), random(2, 300<<10), random(3, 10)}
			for k := 1; ; k++ {
				done := false
				synctest.Test(t, func(t *testing.T) {
					src, store := newFakeSource(), newMemStore()
					a := src.image(t, amd64, layers...)
					a.Platform = &amd64
					ref := src.name(appName, src.index(t, a))
					store.keep(t, layers[0], [2]int64{1 << 20, 1 << 20})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					s := &saboteur{k: k, act: func() error { return broken }}
					want := broken
					if cancelled {
						s.act = func() error { cancel(); return nil }
						want = context.Canceled
					}
					began := time.Now()
					rt := newRuntime(t, transfer.Config{Source: torturedSource{src, s}, Store: torturedStore{store, s}})
					rt.Processors(1 + k%2*7)
					_, err := rt.Pull(ctx, spec(ref))
					require.Zero(t, time.Since(began), "event %d", k)
					done = s.n < k
					s.k = 0
					if err != nil {
						require.ErrorIs(t, err, want, "event %d", k)
					}
					require.Zero(t, src.inFlight, "event %d: bodies left open", k)
					_, err = rt.Pull(t.Context(), spec(ref))
					require.NoError(t, err, "after event %d", k)
					require.Empty(t, store.partials, "after event %d", k)
					store.clean(t)
				})
				if done {
					assert.Greater(t, k, 60, "events")
					break
				}
			}
		})
	}
}
