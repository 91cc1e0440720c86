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

func TestManyPullsOfOneImageFetchEachBlobOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency, src.perRead = 10*time.Millisecond, time.Millisecond
		ref := src.name(appName, src.image(t, amd64, random(1, 3<<20), random(2, 100<<10), random(3, 10)))
		rt := newRuntime(t, transfer.Config{Source: src, Store: store})
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(ref))
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		for d, n := range src.blobGets {
			assert.Equal(t, 1, n, "fetches of %s", d)
		}
		for d, n := range store.ingests {
			assert.Equal(t, 1, n, "ingests of %s", d)
		}
		store.clean(t)
	})
}

func TestManyPullsOfManyImagesFetchEachBlobOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency, src.perRead = 10*time.Millisecond, time.Millisecond
		base := random(1, 300<<10)
		var refs []reference.Reference
		for i := range 1000 {
			layer := []byte(fmt.Sprint("layer ", i))
			refs = append(refs, src.name(fmt.Sprintf("registry.example/app-%d:v1", i), src.image(t, amd64, base, layer)))
		}
		rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxBlobs: 6})
		var wg sync.WaitGroup
		for _, ref := range refs {
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(ref))
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, src.most, 6, "bodies at once")
		assert.Equal(t, 1, src.blobGets[digestOf(base)])
		assert.Len(t, store.tags, 1000)
		store.clean(t)
	})
}

// The pull that started a flight may leave it. The flight goes on as long as another pull
// waits.
func TestAFlightOutlivesItsFirstPull(t *testing.T) {
	for _, size := range sizes {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			src.perRead, src.readSize = 10*time.Millisecond, size/10
			ref := src.name(appName, src.image(t, amd64, random(1, size)))
			rt := newRuntime(t, transfer.Config{Source: src, Store: store, MaxConnsPerBlob: 1})
			first, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := rt.Pull(first, spec(ref))
				assert.ErrorIs(t, err, context.Canceled)
			})
			synctest.Wait()
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(ref))
				assert.NoError(t, err)
			})
			time.Sleep(35 * time.Millisecond)
			cancel()
			wg.Wait()
			for d, n := range src.blobGets {
				assert.Equal(t, 1, n, "fetches of %s", d)
			}
			store.clean(t)
		})
	}
}

// When the last pull leaves, the flight ends, and a later pull resumes from what it kept.
func TestAFlightEndsWithItsLastPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.perRead, src.readSize = 10*time.Millisecond, 100<<10
		ref := src.name(appName, src.image(t, amd64, random(1, 1<<20)))
		rt := newRuntime(t, transfer.Config{Source: src, Store: store})
		ctx, cancel := context.WithTimeout(t.Context(), 55*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, err := rt.Pull(ctx, spec(ref))
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			})
		}
		wg.Wait()
		assert.Zero(t, src.inFlight, "the last pull that leaves waits for the end of the flight")
		_, err := rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Less(t, src.blobBytes, int64(1<<20+1000))
		store.clean(t)
	})
}

// A flight fails for a reason that may be due to the credential or the registry of the
// pull that started it. Pulls with another credential or registry do not fail with it.
func TestPullsWithOtherCredentialsDoNotShareAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency = 10 * time.Millisecond
		layer := random(1, 1000)
		ref := src.name(appName, src.image(t, amd64, layer))
		good := credentials.Credential{Username: "good"}
		src.blob = func(_ ocispec.Descriptor, cred credentials.Credential, _, _ int64) (io.ReadCloser, int64, error) {
			if cred.Same(good) {
				return nil, 0, nil
			}
			return nil, 0, &content.Error{Reason: content.ErrDenied}
		}
		rt := newRuntime(t, transfer.Config{Source: src, Store: store})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				s := spec(ref)
				if i%2 == 1 {
					s.Credential = good
				}
				_, err := rt.Pull(t.Context(), s)
				if i%2 == 1 {
					assert.NoError(t, err)
				} else if err != nil { // a blob that came in the meantime serves each pull that may read the manifest
					assert.ErrorIs(t, err, content.ErrDenied)
				}
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, src.blobGets[digestOf(layer)], 3, "the pull with the bad credential once or twice, the other once")
		store.clean(t)
	})
}

func TestSeveralRuntimesOnOneStoreFetchEachBlobOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency, src.perRead = 10*time.Millisecond, time.Millisecond
		ref := src.name(appName, src.image(t, amd64, random(1, 3<<20), random(2, 1000)))
		var wg sync.WaitGroup
		for range 5 {
			rt := newRuntime(t, transfer.Config{Source: src, Store: store})
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(ref))
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		for d, n := range src.blobGets {
			assert.Equal(t, 1, n, "fetches of %s", d)
		}
		store.clean(t)
	})
}

// An image whose descriptor of a shared layer has a wrong size does not spoil another image.
func TestAWrongSizeSpoilsNoOtherImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		src.latency = 10 * time.Millisecond
		layer := random(1, 1000)
		good := src.name(appName, src.image(t, amd64, layer))
		lie := src.putBlob("application/octet-stream", layer)
		lie.Size = 999
		config := src.putBlob("application/vnd.example+json", []byte("{}"))
		bad := src.name("registry.example/bad:v1", src.putDoc(t, "application/vnd.oci.image.manifest.v1+json", map[string]any{
			"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []any{lie},
		}))
		rt := newRuntime(t, transfer.Config{Source: src, Store: store})
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(bad))
				assert.Error(t, err)
			})
			wg.Go(func() {
				_, err := rt.Pull(t.Context(), spec(good))
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	})
}

// A hookSource calls a function before each Blob, with no lock held.
type hookSource struct {
	*fakeSource
	hook func(ctx context.Context, desc ocispec.Descriptor, off int64) error
}

func (s hookSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	if err := s.hook(ctx, desc, off); err != nil {
		return content.Body{}, err
	}
	return s.fakeSource.Blob(ctx, repo, desc, off, n)
}

// One image names another image's manifest as a layer. The registry does not have it as a blob,
// so that pull fails. The pull that has the bytes of the manifest succeeds.
func TestDataInADescriptorDoesNotFailWithAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, store := newFakeSource(), newMemStore()
		good := src.image(t, amd64, random(1, 100))
		ref := src.name(appName, good)
		config := src.putBlob("application/vnd.example+json", []byte("{}"))
		bad := src.name("registry.example/team/app:bad", src.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{
			"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": []any{good},
		}))
		slow := hookSource{src, func(ctx context.Context, d ocispec.Descriptor, _ int64) error {
			if d.Digest == good.Digest {
				return pause(ctx, 100*time.Millisecond)
			}
			return nil
		}}
		rt := newRuntime(t, transfer.Config{Source: slow, Store: store})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := rt.Pull(t.Context(), spec(bad))
			assert.Error(t, err)
		})
		synctest.Wait() // the registry is asked for the manifest as a blob
		wg.Go(func() {
			_, err := rt.Pull(t.Context(), spec(ref))
			assert.NoError(t, err)
		})
		wg.Wait()
		store.clean(t)
	})
}
