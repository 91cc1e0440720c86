package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A constantSource gives the same manifest for every name.
type constantSource struct {
	*fakeSource
	desc ocispec.Descriptor
}

func (s constantSource) Manifest(context.Context, content.Repo, digest.Digest) (content.Document, error) {
	return content.Document{Desc: s.desc, Body: s.docs[s.desc.Digest]}, nil
}

func TestAnotherManifestThanTheNamesDigestIsRefused(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	wanted, given := src.image(t, amd64, random(1, 100)), src.image(t, amd64, random(2, 100))
	rt := newRuntime(t, transfer.Config{Source: constantSource{src, given}, Store: store})
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

// A Store may be any implementation, and its names may be in a file that anyone can write
// to.
func TestAnImpossibleDescriptorOfTheStoreIsAnError(t *testing.T) {
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
		rt := newRuntime(t, transfer.Config{Source: src, Store: &spoiltStore{store, desc}})
		_, err := rt.Status(t.Context(), spec(ref))
		assert.Error(t, err, name)
		_, err = rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err, "%s: it is fetched again", name)
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

// Outside an index, RequirePlatform compares what the config says.
func TestRequirePlatformReadsTheConfig(t *testing.T) {
	for config, want := range map[string]content.Reason{
		`{"os":"linux","architecture":"amd64"}`: "",
		`{}`:                                    "", // the config of signatures and other artifacts
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
		rt := newRuntime(t, transfer.Config{Source: src, Store: store, RequirePlatform: true})
		_, err := rt.Pull(t.Context(), spec(ref))
		assert.Equal(t, want, content.ReasonOf(err), "%s: %v", config, err)
		_, planErr := rt.Plan(t.Context(), spec(ref))
		if want != content.ErrBadManifest { // Plan reads what it can
			assert.Equal(t, want, content.ReasonOf(planErr), "%s: %v", config, planErr)
		}
		_, err = rt.Status(t.Context(), spec(ref))
		assert.Equal(t, want == "", err == nil, "%s: %v", config, err)

		_, err = newRuntime(t, transfer.Config{Source: src, Store: newMemStore()}).Pull(t.Context(), spec(ref))
		assert.NoError(t, err, "%s: without RequirePlatform the config is not read", config)
	}
}

// A config that is too large to be read into memory is not fetched for that.
func TestAConfigThatIsTooLargeIsNotFetchedForThePlatform(t *testing.T) {
	for name, wrap := range map[string]func(*fakeSource, ocispec.Descriptor) ocispec.Descriptor{
		"alone":       func(_ *fakeSource, d ocispec.Descriptor) ocispec.Descriptor { return d },
		"in an index": func(s *fakeSource, d ocispec.Descriptor) ocispec.Descriptor { return s.index(t, d) },
	} {
		src, store := newFakeSource(), newMemStore()
		ref := src.name(appName, wrap(src, src.manifestWith(t, ocispec.MediaTypeImageConfig, random(1, 5<<20))))
		_, err := newRuntime(t, transfer.Config{Source: src, Store: store, RequirePlatform: true}).Pull(t.Context(), spec(ref))
		assert.ErrorIs(t, err, content.ErrTooLarge, name)
		assert.Empty(t, src.blobGets, name)
	}
}

// An index has an SBOM and an image for one platform. The SBOM, even if it was pulled by its
// own name, is not an image for the other platforms.
func TestAnArtifactNextToImagesIsNotAnImage(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	sbom := src.putDoc(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example.sbom",
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{src.putBlob("application/x-sbom", random(1, 50))},
	})
	image := src.image(t, arm64, random(2, 100))
	image.Platform = &arm64
	ref := src.name(appName, src.index(t, sbom, image))
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
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

func TestAnImageIsPulledThroughNestedIndexes(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	a := src.image(t, amd64, random(1, 100))
	a.Platform = &amd64
	inner := src.index(t, a)
	ref := src.name(appName, src.index(t, inner))
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	image, err := rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, a.Digest, image.Manifest)
	assert.Contains(t, store.blobs, inner.Digest)
	again, err := rt.Status(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, image, again)

	deep := a
	for range index.MaxDepth + 1 {
		deep = src.index(t, deep)
	}
	_, err = rt.Pull(t.Context(), spec(src.name("registry.example/nested:v1", deep)))
	require.NoError(t, err)
	deep = src.index(t, deep)
	ref = src.name("registry.example/deep:v1", deep)
	_, err = rt.Pull(t.Context(), spec(ref))
	assert.ErrorIs(t, err, content.ErrTooDeep)
	assert.True(t, credentials.Stopped(err))
}

// The error names the platforms of all indexes within the index. Each of these is asked for
// once.
func TestTheErrorNamesThePlatformsOfNestedIndexes(t *testing.T) {
	src := newFakeSource()
	a := src.image(t, arm64, random(1, 100))
	a.Platform = &arm64
	inner := src.index(t, a)
	ref := src.name(appName, src.index(t, inner, inner, src.index(t, inner)))
	rt := newRuntime(t, transfer.Config{Source: src, Store: newMemStore()})
	_, err := rt.Pull(t.Context(), spec(ref))
	assert.ErrorIs(t, err, content.ErrNoPlatform)
	assert.ErrorContains(t, err, "no match for linux/amd64; available: linux/arm64")
	assert.Equal(t, 3, src.requests())
}

// Entries without a platform are chosen by their configs.
func TestEntriesWithoutPlatformAreChosenByTheirConfigs(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	a := src.image(t, arm64, random(1, 100))
	b := src.image(t, amd64, random(2, 100))
	ref := src.name(appName, src.index(t, a, b))
	var admitted []string
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	var last puller.Progress
	s := spec(ref)
	s.Admit = func(_ context.Context, image content.Admission) error {
		admitted = append(admitted, string(image.Descriptor.Digest))
		return nil
	}
	s.Progress = func(p puller.Progress) { last = p }
	image, err := rt.Pull(t.Context(), s)
	require.NoError(t, err)
	assert.Equal(t, b.Digest, image.Manifest)
	assert.Equal(t, amd64, image.Platform)
	assert.Equal(t, []string{string(a.Digest), string(b.Digest)}, admitted, "Admit is called for both before their blobs are fetched")
	assert.Equal(t, last.Total, last.TotalDone)
	assert.Zero(t, last.TotalResumed)
	got, err := rt.Status(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, image, got)

	ref = src.name("registry.example/other:v1", src.index(t, a))
	_, err = rt.Pull(t.Context(), spec(ref))
	assert.ErrorIs(t, err, content.ErrNoPlatform)
	assert.True(t, credentials.Stopped(err))
}

func TestRequirePlatformRefusesAnImageForAnother(t *testing.T) {
	src := newFakeSource()
	layer := random(1, 100)
	ref := src.name(appName, src.image(t, arm64, layer))
	image, err := newRuntime(t, transfer.Config{Source: src, Store: newMemStore()}).Pull(t.Context(), spec(ref))
	require.NoError(t, err, "what the runtimes of Kubernetes do")
	assert.Equal(t, arm64, image.Platform)

	store := newMemStore()
	rt := newRuntime(t, transfer.Config{Source: src, Store: store, RequirePlatform: true})
	_, err = rt.Pull(t.Context(), spec(ref))
	require.ErrorIs(t, err, content.ErrNoPlatform)
	assert.ErrorContains(t, err, "linux/arm64")
	assert.Len(t, store.blobs, 1, "only the config is stored")
	_, err = rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: arm64})
	require.NoError(t, err)
	_, err = rt.Status(t.Context(), spec(ref))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = rt.Status(t.Context(), puller.Spec{Ref: ref, Platform: arm64})
	assert.NoError(t, err)
}

func TestAnArtifactIsPulledWithoutAPlatform(t *testing.T) {
	for _, strict := range []bool{false, true} {
		src, store := newFakeSource(), newMemStore()
		m := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example.model",
			Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{src.putBlob("application/x-model", random(1, 5000))},
		}
		ref := src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, m))
		rt := newRuntime(t, transfer.Config{Source: src, Store: store, RequirePlatform: strict})
		image, err := rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Zero(t, image.Platform)
		assert.Equal(t, 2, src.requests(), "manifest and layer; the empty config comes in its descriptor")
		got, err := rt.Status(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Equal(t, image, got)
	}
}

func TestAnImageThatAdmitRefusesIsNotFetched(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	a := src.image(t, amd64, random(1, 100))
	a.Platform = &amd64
	idx := src.index(t, a)
	ref := src.name(appName, idx)
	refusal := errors.New("no signature")
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	s := spec(ref)
	s.Admit = func(_ context.Context, image content.Admission) error {
		assert.Equal(t, ref, image.Ref)
		assert.Equal(t, idx.Digest, image.Top.Digest)
		assert.Equal(t, idx.Digest, image.Repo.Ref.Digest(), "what the name points to")
		assert.Equal(t, ref.Name(), image.Repo.Ref.Name())
		assert.Equal(t, a.Digest, image.Descriptor.Digest)
		assert.Equal(t, src.docs[a.Digest], image.Manifest)
		return refusal
	}
	_, err := rt.Pull(t.Context(), s)
	assert.ErrorIs(t, err, refusal)
	assert.ErrorIs(t, err, puller.ErrSignatureValidation)
	assert.ErrorIs(t, err, content.ErrRefused)
	assert.True(t, credentials.Stopped(err))
	assert.Empty(t, src.blobGets)
	assert.Empty(t, store.blobs)
}

// Admit can read further documents of the image's repository, with the credential of the
// pull.
func TestAdmitCanReadSignaturesWithThePullsCredential(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	ref := src.name(appName, src.image(t, amd64, random(1, 100)))
	signature := src.name("registry.example/team/app:signature", src.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "config": ocispec.DescriptorEmptyJSON, "layers": []any{ocispec.DescriptorEmptyJSON},
	}))
	s := spec(ref)
	s.Credential = credentials.Credential{Username: "u", Password: credentials.Conceal("p")}
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	s.Admit = func(ctx context.Context, image content.Admission) error {
		assert.Equal(t, s.Credential, image.Repo.Cred)
		doc, err := image.Source.Manifest(ctx, content.Repo{Ref: signature, Cred: image.Repo.Cred}, "")
		if err != nil {
			return err
		}
		return errors.New("the signature has " + doc.Desc.MediaType)
	}
	_, err := rt.Pull(t.Context(), s)
	assert.ErrorContains(t, err, "the signature has "+ocispec.MediaTypeImageManifest)
}

// Inspect describes a stored image as Pull described it before it was stored. It does not ask the
// registry.
func TestInspectDescribesTheStoredImage(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	a := src.image(t, amd64, random(1, 100))
	a.Platform = &amd64
	ref := src.name(appName, src.index(t, a))
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	_, err := rt.Inspect(t.Context(), spec(ref))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	s := spec(ref)
	s.Credential = credentials.Credential{Username: "u", Password: credentials.Conceal("p")}
	var asked content.Admission
	s.Admit = func(_ context.Context, image content.Admission) error {
		asked = image
		return nil
	}
	_, err = rt.Pull(t.Context(), s)
	require.NoError(t, err)
	before := src.requests()
	got, err := rt.Inspect(t.Context(), s)
	require.NoError(t, err)
	got.Top.Platform, asked.Top.Platform = nil, nil
	assert.Equal(t, asked.Descriptor.Digest, got.Descriptor.Digest)
	asked.Descriptor, got.Descriptor = ocispec.Descriptor{}, ocispec.Descriptor{}
	assert.Equal(t, asked, got)
	assert.Equal(t, before, src.requests())
}

func TestPlanSaysWhatPullWouldFetch(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	base := random(9, 500)
	a := src.image(t, amd64, base, random(1, 100))
	a.Platform = &amd64
	b := src.image(t, arm64, base, random(2, 100))
	b.Platform = &arm64
	idx := src.index(t, b, a)
	ref := src.name(appName, idx)
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	_, err := rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: arm64})
	require.NoError(t, err)
	plan, err := rt.Plan(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, idx.Digest, plan.Digest)
	assert.Equal(t, a.Digest, plan.Manifest)
	assert.Equal(t, amd64, plan.Platform)
	require.Len(t, plan.Verdicts, 2)
	assert.True(t, plan.Verdicts[1].Chosen)
	assert.Len(t, plan.Present, 1, "the base layer")
	assert.Len(t, plan.Fetch, 2)
	assert.NotContains(t, store.blobs, a.Digest, "nothing is stored")

	lone := src.name("registry.example/lone:v1", src.image(t, amd64, random(3, 10)))
	plan, err = rt.Plan(t.Context(), spec(lone))
	require.NoError(t, err)
	assert.Nil(t, plan.Verdicts)
	assert.Len(t, plan.Fetch, 2)
	_, err = rt.Plan(t.Context(), spec(reference.MustParse("registry.example/none:v1")))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// The bytes, size and media type that a Source gives are compared with the descriptor.
func TestAManifestIsComparedWithItsDescriptor(t *testing.T) {
	src := newFakeSource()
	a := src.image(t, amd64, random(1, 100))
	a.Platform = &amd64
	for name, tt := range map[string]struct {
		spoil func(d ocispec.Descriptor) ocispec.Descriptor
		want  content.Reason
	}{
		"size":   {func(d ocispec.Descriptor) ocispec.Descriptor { d.Size++; return d }, content.ErrSizeMismatch},
		"digest": {func(d ocispec.Descriptor) ocispec.Descriptor { src.docs[d.Digest][10] ^= 1; return d }, content.ErrDigestMismatch},
		"no digest": {func(d ocispec.Descriptor) ocispec.Descriptor {
			d.Digest = "sha256:../../etc/passwd"
			return d
		}, content.ErrBadDigest},
		"media type": {func(d ocispec.Descriptor) ocispec.Descriptor { d.MediaType = ocispec.MediaTypeImageIndex; return d }, content.ErrBadManifest},
	} {
		t.Run(name, func(t *testing.T) {
			before := string(src.docs[a.Digest])
			bad := tt.spoil(a)
			ref := src.name(appName, src.index(t, bad))
			_, err := newRuntime(t, transfer.Config{Source: src, Store: newMemStore()}).Pull(t.Context(), spec(ref))
			assert.Equal(t, tt.want, content.ReasonOf(err), "%v", err)
			assert.True(t, credentials.Stopped(err))
			src.docs[a.Digest] = []byte(before)
		})
	}
}

// A layer that a manifest lists many times is fetched once.
func TestALayerThatIsListedOftenIsFetchedOnce(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	layer := src.putBlob(ocispec.MediaTypeImageLayer, random(1, 100))
	config, _ := json.Marshal(ocispec.Image{Platform: amd64})
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: src.putBlob(ocispec.MediaTypeImageConfig, config)}
	for range 1000 {
		m.Layers = append(m.Layers, layer)
	}
	ref := src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, m))
	_, err := newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, 1, src.blobGets[layer.Digest])
}

// configOf returns the descriptor of an image's config.
func (s *fakeSource) configOf(t *testing.T, image ocispec.Descriptor) ocispec.Descriptor {
	var m ocispec.Manifest
	require.NoError(t, json.Unmarshal(s.docs[image.Digest], &m))
	return m.Config
}

// twoStores is a store with blobs that another process stored, without waiting for the
// end of this process' ingests.
type twoStores struct {
	*memStore
	elsewhere *memStore
}

func (s twoStores) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if has, err := s.elsewhere.Has(ctx, desc); has || err != nil {
		return has, err
	}
	return s.memStore.Has(ctx, desc)
}

func (s twoStores) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if body, err := s.elsewhere.Open(ctx, desc); err == nil {
		return body, nil
	}
	return s.memStore.Open(ctx, desc)
}

func (s twoStores) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if has, err := s.elsewhere.Has(ctx, desc); has || err != nil {
		return nil, cmp.Or(err, fs.ErrExist)
	}
	return s.memStore.Ingest(ctx, desc)
}

// The platform is read only from a config that was verified, even after a host gave wrong
// bytes, after wrong bytes were kept, if a server ignores ranges, and if another process
// has stored the config in the meantime.
func TestThePlatformIsReadOnlyFromAVerifiedConfig(t *testing.T) {
	right := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	wrong := ocispec.Platform{OS: "linux", Architecture: "mips6"} // of the same length
	for _, strict := range []bool{false, true} {
		for name, tt := range map[string]struct {
			again, stored, kept, good, noRanges bool // good: the part that was kept is right
			gets                                int
			err                                 error
		}{
			"refused":                                 {gets: 1, err: content.ErrDigestMismatch},
			"another host has it":                     {again: true, gets: 2},
			"another process stored it":               {again: true, stored: true, gets: 1},
			"another process stored it, refused":      {stored: true, gets: 1, err: content.ErrDigestMismatch},
			"a part was kept":                         {kept: true, gets: 2},
			"a good part was kept":                    {kept: true, good: true, gets: 1},
			"a part was kept, stored in the meantime": {kept: true, stored: true, gets: 1},
			"a part was kept, but all came":           {again: true, kept: true, noRanges: true, gets: 2},
			"a part was kept, but all came, stored":   {again: true, kept: true, noRanges: true, stored: true, gets: 1},
		} {
			src, store, elsewhere := newFakeSource(), newMemStore(), newMemStore()
			image := src.image(t, right, random(1, 100))
			ref := src.name(appName, image)
			config := src.configOf(t, image)
			body := src.blobs[config.Digest]
			bad := bytes.Replace(body, []byte("amd64"), []byte("mips6"), 1)
			require.Len(t, bad, len(body))
			require.NotEqual(t, body, bad)
			if tt.kept {
				kept := bad
				if tt.good {
					kept = body
				}
				store.keepAs(t, config.Digest, kept, [2]int64{0, int64(len(kept)) - 1}) // the rest is the same
			}
			gets := 0
			src.blob = func(desc ocispec.Descriptor, _ credentials.Credential, off, n int64) (io.ReadCloser, int64, error) {
				if desc.Digest != config.Digest {
					return nil, 0, nil
				}
				if tt.noRanges {
					off = 0
				}
				from := body
				if gets++; gets == 1 {
					from = bad
					if tt.stored {
						elsewhere.put(t, body)
					}
				}
				rejected := 0
				return &rejectable{bytes.NewReader(from[off:]), tt.again, &rejected}, off, nil
			}
			got, err := newRuntime(t, transfer.Config{Source: src, Store: twoStores{store, elsewhere}, RequirePlatform: strict}).Pull(t.Context(), spec(ref))
			assert.Equal(t, tt.gets, gets, name)
			store.clean(t)
			if tt.err != nil {
				assert.ErrorIs(t, err, tt.err, name)
				continue
			}
			require.NoError(t, err, name)
			assert.Equal(t, right, got.Platform, name)
			assert.NotEqual(t, wrong, got.Platform, name)
		}
	}
}

// A layer with the media type of a config does not decide about the platform. That holds
// for a layer that is fetched before the config and for one that is fetched after it.
func TestALayerThatIsCalledAConfigGivesNoPlatform(t *testing.T) {
	for _, order := range [][2]time.Duration{{1, 2}, {2, 1}} {
		synctest.Test(t, func(t *testing.T) {
			src, store := newFakeSource(), newMemStore()
			m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
			late := map[digest.Digest]time.Duration{}
			put := func(p ocispec.Platform, latency time.Duration) ocispec.Descriptor {
				config, err := json.Marshal(ocispec.Image{Platform: p})
				require.NoError(t, err)
				desc := src.putBlob(ocispec.MediaTypeImageConfig, config)
				late[desc.Digest] = latency
				return desc
			}
			m.Config, m.Layers = put(amd64, order[0]), []ocispec.Descriptor{put(arm64, order[1])}
			ref := src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, m))
			slow := hookSource{src, func(ctx context.Context, d ocispec.Descriptor, _ int64) error { return pause(ctx, late[d.Digest]) }}
			image, err := newRuntime(t, transfer.Config{Source: slow, Store: store}).Pull(t.Context(), spec(ref))
			require.NoError(t, err)
			assert.Equal(t, amd64, image.Platform)
			store.clean(t)
		})
	}
}

// A manifest whose layers have the media type of a config makes the Runtime keep none of them
// in memory.
func TestManyConfigsAreNotKeptInMemory(t *testing.T) {
	const blobs, size = 300, 64 << 10
	src, store := newFakeSource(), newMemStore()
	config, err := json.Marshal(ocispec.Image{Platform: amd64})
	require.NoError(t, err)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: src.putBlob(ocispec.MediaTypeImageConfig, config),
	}
	for i := range uint64(blobs) {
		m.Layers = append(m.Layers, src.putBlob(ocispec.MediaTypeImageConfig, random(i, size)))
	}
	ref := src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, m))
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	var during int64
	store.onTag = func() { during = heap() }
	_, err = newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Less(t, during-heap(), int64(blobs*size/4), "the configs are not in memory")
	runtime.KeepAlive(src)
	runtime.KeepAlive(store)
	store.clean(t)
}
