package transfer_test

import (
	"context"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A constantSource gives one manifest, whatever it is asked for.
type constantSource struct {
	*fakeSource
	desc ocispec.Descriptor
}

func (s constantSource) Manifest(context.Context, reference.Reference, credentials.Credential, digest.Digest) (ocispec.Descriptor, []byte, error) {
	return s.desc, s.docs[s.desc.Digest], nil
}

func TestSourceGivesAnotherDigestThanPinned(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	wanted, given := src.image(t, amd64, random(1, 100)), src.image(t, amd64, random(2, 100))
	rt := transfer.New(transfer.Config{Source: constantSource{src, given}, Store: store})
	_, err := rt.Pull(t.Context(), spec(reference.MustParse(appName+"@"+string(wanted.Digest))))
	require.ErrorIs(t, err, content.ErrDigestMismatch)
	assert.Empty(t, store.blobs)
	assert.Empty(t, store.tags)
}

// A spoiltStore gives one descriptor for every name, until an image is tagged.
type spoiltStore struct {
	*memStore
	desc ocispec.Descriptor
}

func (s *spoiltStore) Lookup(context.Context, reference.Reference) (ocispec.Descriptor, error) {
	return s.desc, nil
}

func (s *spoiltStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	s.desc = desc
	return s.memStore.Tag(ctx, ref, desc)
}

// A Store is somebody's, too, and its names may be a file that anybody wrote.
func TestStoreGivesAnImpossibleDescriptor(t *testing.T) {
	for name, spoil := range map[string]func(*ocispec.Descriptor){
		"negative size": func(d *ocispec.Descriptor) { d.Size = -1 },
		"huge size":     func(d *ocispec.Descriptor) { d.Size = 1 << 62 },
		"digest":        func(d *ocispec.Descriptor) { d.Digest = "sha256:../../etc/passwd" },
		"nothing":       func(d *ocispec.Descriptor) { *d = ocispec.Descriptor{} },
	} {
		src, store := newFakeSource(), newMemStore()
		desc := src.image(t, amd64, random(1, 100))
		ref := src.name(appName, desc)
		store.put(t, src.docs[desc.Digest])
		spoil(&desc)
		rt := transfer.New(transfer.Config{Source: src, Store: &spoiltStore{store, desc}})
		_, err := rt.Status(t.Context(), spec(ref))
		assert.Error(t, err, name)
		_, err = rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err, "%s: it is fetched anew", name)
		_, err = rt.Status(t.Context(), spec(ref))
		assert.NoError(t, err, name)
	}
}

// manifestWith puts a manifest without layers and this config.
func (s *fakeSource) manifestWith(t testing.TB, mediaType string, config []byte) ocispec.Descriptor {
	return s.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": s.putBlob(mediaType, config), "layers": []any{},
	})
}

// What RequirePlatform makes of configs outside an index.
func TestRequirePlatformReadsTheConfig(t *testing.T) {
	for config, want := range map[string]content.Kind{
		`{"os":"linux","architecture":"amd64"}`: "",
		`{}`:                                    "", // as signatures and other artifacts have it
		`{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}`: "",
		`{"os":"linux"}`: content.ErrNoPlatform,
		`{"os":"linux","architecture":"arm64","variant":"v8"}`:                   content.ErrNoPlatform,
		`{"os":"linux","architecture":"amd64","variant":"v3"}`:                   content.ErrNoPlatform,
		`{"os":"windows","architecture":"amd64","os.version":"10.0.20348.1000"}`: content.ErrNoPlatform,
		`{`:  content.ErrBadManifest,
		``:   content.ErrBadManifest,
		`[]`: content.ErrBadManifest,
	} {
		src, store := newFakeSource(), newMemStore()
		ref := src.name(appName, src.manifestWith(t, ocispec.MediaTypeImageConfig, []byte(config)))
		rt := transfer.New(transfer.Config{Source: src, Store: store, RequirePlatform: true})
		_, err := rt.Pull(t.Context(), spec(ref))
		assert.Equal(t, want, content.KindOf(err), "%s: %v", config, err)
		_, planErr := rt.Plan(t.Context(), spec(ref))
		if want != content.ErrBadManifest { // Plan reads what it can
			assert.Equal(t, want, content.KindOf(planErr), "%s: %v", config, planErr)
		}
		_, err = rt.Status(t.Context(), spec(ref))
		assert.Equal(t, want == "", err == nil, "%s: %v", config, err)

		_, err = transfer.New(transfer.Config{Source: src, Store: newMemStore()}).Pull(t.Context(), spec(ref))
		assert.NoError(t, err, "%s: nobody asked", config)
	}
}

// A config that is too large to be read is not fetched to be read.
func TestHugeConfig(t *testing.T) {
	for name, wrap := range map[string]func(*fakeSource, ocispec.Descriptor) ocispec.Descriptor{
		"alone":       func(_ *fakeSource, d ocispec.Descriptor) ocispec.Descriptor { return d },
		"in an index": func(s *fakeSource, d ocispec.Descriptor) ocispec.Descriptor { return s.index(t, d) },
	} {
		src, store := newFakeSource(), newMemStore()
		ref := src.name(appName, wrap(src, src.manifestWith(t, ocispec.MediaTypeImageConfig, random(1, 5<<20))))
		_, err := transfer.New(transfer.Config{Source: src, Store: store, RequirePlatform: true}).Pull(t.Context(), spec(ref))
		assert.ErrorIs(t, err, content.ErrTooLarge, name)
		assert.Empty(t, src.blobGets, name)
	}
}

// An SBOM that lies in an index beside images, and was pulled by its own name,
// is no image for the platforms that have none.
func TestArtifactBesideImagesIsNoImage(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	sbom := src.putDoc(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example.sbom",
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{src.putBlob("application/x-sbom", random(1, 50))},
	})
	image := src.image(t, arm64, random(2, 100))
	image.Platform = &arm64
	ref := src.name(appName, src.index(t, sbom, image))
	rt := transfer.New(transfer.Config{Source: src, Store: store})
	for _, s := range []puller.Spec{{Ref: ref, Platform: arm64}, spec(reference.MustParse("registry.example/team/app@" + string(sbom.Digest)))} {
		_, err := rt.Pull(t.Context(), s)
		require.NoError(t, err)
	}
	_, err := rt.Pull(t.Context(), spec(ref))
	assert.ErrorIs(t, err, content.ErrNoPlatform)
	_, err = rt.Status(t.Context(), spec(ref))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = rt.Plan(t.Context(), spec(ref))
	assert.ErrorIs(t, err, content.ErrNoPlatform)
}
