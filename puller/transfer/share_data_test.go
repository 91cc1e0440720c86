package transfer_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
)

// A hookSource calls a function before each Blob, with no lock held.
type hookSource struct {
	*fakeSource
	hook func(ctx context.Context, desc ocispec.Descriptor, off int64) error
}

func (s hookSource) Blob(ctx context.Context, ref reference.Reference, cred credentials.Credential, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, int64, error) {
	if err := s.hook(ctx, desc, off); err != nil {
		return nil, 0, err
	}
	return s.fakeSource.Blob(ctx, ref, cred, desc, off, n)
}

// A manifest that somebody's image names as a layer, which the registry does not
// have as a blob, is there for the pull that has its bytes.
func TestDataDoesNotFailWithAFetch(t *testing.T) {
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
		rt := transfer.New(transfer.Config{Source: slow, Store: store})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := rt.Pull(t.Context(), spec(bad))
			assert.Error(t, err)
		})
		synctest.Wait() // the registry is asked for it as a blob
		wg.Go(func() {
			_, err := rt.Pull(t.Context(), spec(ref))
			assert.NoError(t, err)
		})
		wg.Wait()
		store.clean(t)
	})
}
