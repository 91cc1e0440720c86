package transfer_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
)

const appName = "registry.example/team/app:v1"

func spec(ref reference.Reference) puller.Spec { return puller.Spec{Ref: ref, Platform: amd64} }

func TestAnImageIsPulledWithOneRequestForEachBlob(t *testing.T) {
	for _, size := range []int{0, 1, 100, 128 << 10, 128<<10 + 1, 2<<20 - 1, 2 << 20, 5<<20 + 7} {
		src, store := newFakeSource(), newMemStore()
		layer := random(1, size)
		ref := src.name(appName, src.image(t, amd64, layer, random(2, 300), layer))
		rt := newRuntime(t, transfer.Config{Source: src, Store: store})
		image, err := rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err, "size %d", size)
		desc := src.names[ref.String()]
		assert.Equal(t, desc.Digest, image.Digest)
		assert.Equal(t, desc.Digest, image.Manifest)
		assert.Equal(t, string(desc.Digest), image.ID)
		assert.Equal(t, amd64, image.Platform)
		assert.Positive(t, image.Size)
		want := 4 // manifest, config and two layers; the third is the first
		if size == 0 {
			want = 3 // an empty blob needs no request
		}
		assert.Equal(t, want, src.requests(), "size %d", size)
		assert.Equal(t, 4, len(store.blobs))
		assert.Empty(t, store.partials)

		again, err := rt.Status(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Equal(t, image, again)
		assert.Equal(t, want, src.requests(), "Status makes no request")

		again, err = rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Equal(t, image, again)
		assert.Equal(t, want+1, src.requests(), "one HEAD")
		assert.Equal(t, 1, src.heads)
		store.clean(t)
	}
}

func TestOnlyThePlatformsManifestOfAnIndexIsPulled(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	a := src.image(t, amd64, random(1, 1000))
	a.Platform = &amd64
	b := src.image(t, arm64, random(2, 1000))
	b.Platform = &arm64
	idx := src.index(t, a, b)
	ref := src.name(appName, idx)
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	image, err := rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, idx.Digest, image.Digest)
	assert.Equal(t, a.Digest, image.Manifest)
	assert.Equal(t, 4, src.requests())
	assert.NotContains(t, store.blobs, b.Digest, "the manifest of the other platform is not stored")
	assert.Equal(t, idx.Digest, store.tags[ref].Digest, "the name is tagged with the index")

	_, err = rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, 5, src.requests(), "one HEAD, also for an index")

	_, err = rt.Status(t.Context(), puller.Spec{Ref: ref, Platform: arm64})
	assert.ErrorIs(t, err, fs.ErrNotExist, "of the other platform nothing is stored")
	other, err := rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: arm64})
	require.NoError(t, err)
	assert.Equal(t, b.Digest, other.Manifest)
	assert.Equal(t, 9, src.requests(), "HEAD, manifest, config, layer: the index is not fetched again")

	_, err = rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: ocispec.Platform{OS: "linux", Architecture: "riscv64"}})
	assert.ErrorIs(t, err, content.ErrNoPlatform)
	store.clean(t)
}

func TestAnImageIsPulledByDigest(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	desc := src.image(t, amd64, random(1, 1000))
	ref := reference.MustParse("registry.example/team/app@" + string(desc.Digest))
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	_, err := rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, 3, src.requests())
	_, err = rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, 4, src.requests())
	assert.Equal(t, 1, src.heads)
}

func TestDataInADescriptorIsNotFetched(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	layer := random(1, 1000)
	config := src.putBlob("application/vnd.example+json", []byte(`{}`))
	config.Data = []byte(`{}`)
	good := src.putBlob(ocispec.MediaTypeImageLayer, layer)
	good.Data = layer
	bad := src.putBlob(ocispec.MediaTypeImageLayer, random(2, 10))
	bad.Data = random(3, 10)
	desc := src.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config, "layers": []any{good, bad},
	})
	ref := src.name(appName, desc)
	_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, 2, src.requests(), "the manifest, and the blob whose data is wrong")
	assert.Equal(t, 1, src.blobGets[bad.Digest])
	store.clean(t)
}

func TestACancelledPullKeepsWhatArrived(t *testing.T) {
	for _, size := range []int{1 << 20, 10 << 20} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			src.perRead, src.readSize = 10*time.Millisecond, 64<<10
			ref := src.name(appName, src.image(t, amd64, random(1, size)))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			rt := newRuntime(t, transfer.Config{Source: src, Store: store})
			_, err := rt.Pull(ctx, spec(ref))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, 100*time.Millisecond, time.Since(began), "at once")
			synctest.Wait()
			assert.Zero(t, src.inFlight)
			assert.NotEmpty(t, store.partials, "bytes that arrived are kept")
			store.clean(t)

			src.perRead = 0
			got := src.blobBytes
			_, err = rt.Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			assert.LessOrEqual(t, src.blobBytes, int64(size)+1000, "%d bytes before", got)
			store.clean(t)
		})
	}
}

func TestAPullWithoutAStoreIsAnError(t *testing.T) {
	_, err := newRuntime(t, transfer.Config{Source: newFakeSource()}).Pull(t.Context(), spec(reference.MustParse(appName)))
	assert.ErrorContains(t, err, "Config.Store is nil")
	_, err = newRuntime(t, transfer.Config{Source: newFakeSource(), Store: newMemStore()}).Pull(t.Context(), puller.Spec{})
	assert.True(t, errors.Is(err, content.ErrBadReference))
}

// TestRuntimeHandlerIsRefused: the store cannot keep the images of two handlers apart. So nothing
// is pulled, and no other credential is tried.
func TestRuntimeHandlerIsRefused(t *testing.T) {
	rt, err := transfer.New(transfer.Config{Store: new(pullertest.MemStore)})
	require.NoError(t, err)
	spec := puller.Spec{Ref: reference.MustParse("a.example/a:1"), Platform: amd64, RuntimeHandler: "kata"}
	for what, ask := range map[string]func() error{
		"Status": func() error { _, err := rt.Status(t.Context(), spec); return err },
		"Pull":   func() error { _, err := rt.Pull(t.Context(), spec); return err },
		"Plan":   func() error { _, err := rt.Plan(t.Context(), spec); return err },
	} {
		err := ask()
		assert.ErrorIs(t, err, errors.ErrUnsupported, what)
		assert.ErrorContains(t, err, `"kata"`, what)
	}
	p, err := puller.New(puller.Config{Runtime: rt})
	require.NoError(t, err)
	for _, policy := range []pullpolicy.Policy{pullpolicy.Always, pullpolicy.IfNotPresent} {
		_, err = p.Pull(t.Context(), puller.Request{Image: "a.example/a:1", RuntimeHandler: "kata", Policy: policy})
		assert.ErrorIs(t, err, errors.ErrUnsupported)
	}
}
