package transfer_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A faultyStore calls fail before each call.
type faultyStore struct {
	*memStore
	fail func(what string) error
}

func (s faultyStore) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	if err := s.fail("look up"); err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.memStore.Lookup(ctx, ref)
}

func (s faultyStore) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := s.fail("look for"); err != nil {
		return false, err
	}
	return s.memStore.Has(ctx, desc)
}

func (s faultyStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := s.fail("open"); err != nil {
		return nil, err
	}
	f, err := s.memStore.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	read := readFunc(func(p []byte) (int, error) {
		if err := s.fail("read"); err != nil {
			return 0, err
		}
		return f.Read(p)
	})
	return struct {
		io.Reader
		io.Closer
	}{read, f}, nil
}

func (s faultyStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	if err := s.fail("tag"); err != nil {
		return err
	}
	return s.memStore.Tag(ctx, ref, desc)
}

func (s faultyStore) Free(ctx context.Context) (int64, error) {
	if err := s.fail("free space"); err != nil {
		return 0, err
	}
	return s.memStore.Free(ctx)
}

func (s faultyStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if err := s.fail("ingest"); err != nil {
		return nil, err
	}
	in, err := s.memStore.Ingest(ctx, desc)
	if err != nil {
		return nil, err
	}
	return faultyIngest{in, s.fail}, nil
}

type faultyIngest struct {
	content.Ingest
	fail func(string) error
}

func (in faultyIngest) WriteAt(p []byte, off int64) (int, error) {
	if err := in.fail("write"); err != nil {
		return 0, err
	}
	return in.Ingest.WriteAt(p, off)
}

func (in faultyIngest) ReadAt(p []byte, off int64) (int, error) {
	if err := in.fail("read back"); err != nil {
		return 0, err
	}
	return in.Ingest.ReadAt(p, off)
}

func (in faultyIngest) Commit(ctx context.Context) error {
	if err := in.fail("commit"); err != nil {
		return err
	}
	return in.Ingest.Commit(ctx)
}

func (in faultyIngest) Discard() error {
	if err := in.fail("discard"); err != nil {
		return errors.Join(err, in.Ingest.Close())
	}
	return in.Ingest.Discard()
}

func (in faultyIngest) Close() error { return errors.Join(in.fail("close"), in.Ingest.Close()) }

// The Store fails from its k-th call on, for each k. The pull fails with that error, or
// succeeds. It gives back all that it held. When the Store works again, the next pull
// succeeds.
func TestAPullGivesBackAllAfterAFaultOfTheStore(t *testing.T) {
	broken := errors.New("broken on purpose")
	layers := [][]byte{random(1, 5<<19), random(2, 300<<10), random(3, 10), random(4, 9<<18)}
	seen := map[string]bool{}
	configThere := false // whether the config is stored before, so that it is read
	for k := 1; ; k++ {
		over := false
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			ref := src.name(appName, src.index(t, src.image(t, amd64, layers...))) // without a platform: the config is read
			store.keep(t, layers[0], [2]int64{1 << 20, 1 << 20})
			// What is kept of this one is wrong: it is discarded, and fetched again.
			store.keepAs(t, digestOf(layers[3]), flipped(layers[3], 77), [2]int64{0, 1 << 20})
			if configThere {
				for _, blob := range src.blobs {
					if blob[0] == '{' {
						store.put(t, blob)
					}
				}
			}
			var mu sync.Mutex
			n, well := 0, false
			rt := newRuntime(t, transfer.Config{Source: src, MaxMemory: 1, MaxBlobs: 2, Store: faultyStore{store, func(what string) error {
				mu.Lock()
				defer mu.Unlock()
				if n++; n < k || well {
					return nil
				}
				if n == k {
					seen[what] = true
				}
				return broken
			}}})
			rt.Processors(1 + k%2*7)
			_, err := rt.Pull(t.Context(), spec(ref))
			if err != nil {
				assert.ErrorIs(t, err, broken, "call %d", k)
				assert.Equal(t, content.ErrStore, content.ReasonOf(err), "call %d: %v", k, err)
				assert.NotErrorIs(t, err, puller.ErrRegistryUnavailable, "call %d", k)
				assert.True(t, credentials.Stopped(err), "call %d: %v", k, err)
			}
			require.NoError(t, rt.Idle(), "call %d", k)
			require.Zero(t, src.inFlight, "call %d: bodies left open", k)
			over, well = n < k, true
			_, err = rt.Pull(t.Context(), spec(ref))
			require.NoError(t, err, "after call %d", k)
			_, err = rt.Status(t.Context(), spec(ref))
			require.NoError(t, err, "after call %d", k)
			require.NoError(t, rt.Idle(), "after call %d", k)
			store.clean(t)
		})
		if t.Failed() || over && configThere {
			break
		}
		if over {
			k, configThere = 0, true
		}
	}
	for _, what := range []string{"look up", "look for", "open", "read", "free space", "ingest", "write", "read back", "commit", "close"} {
		assert.Contains(t, seen, what, "each kind of call has failed first")
	}
}
