package transfer_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"testing"

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

func TestNestedIndex(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	a := src.image(t, amd64, random(1, 100))
	a.Platform = &amd64
	inner := src.index(t, a)
	ref := src.name(appName, src.index(t, inner))
	rt := transfer.New(transfer.Config{Source: src, Store: store})
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

// What there is for other platforms is said of all indexes, each of which is
// asked for once.
func TestNestedIndexForOthers(t *testing.T) {
	src := newFakeSource()
	a := src.image(t, arm64, random(1, 100))
	a.Platform = &arm64
	inner := src.index(t, a)
	ref := src.name(appName, src.index(t, inner, inner, src.index(t, inner)))
	rt := transfer.New(transfer.Config{Source: src, Store: newMemStore()})
	_, err := rt.Pull(t.Context(), spec(ref))
	assert.ErrorIs(t, err, content.ErrNoPlatform)
	assert.ErrorContains(t, err, "no match for linux/amd64; available: linux/arm64")
	assert.Equal(t, 3, src.requests())
}

// Entries without a platform are taken by what their configs say.
func TestEntriesWithoutPlatform(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	a := src.image(t, arm64, random(1, 100))
	b := src.image(t, amd64, random(2, 100))
	ref := src.name(appName, src.index(t, a, b))
	var admitted []string
	rt := transfer.New(transfer.Config{Source: src, Store: store, Admit: func(_ context.Context, _ reference.Reference, desc ocispec.Descriptor, _ []byte) error {
		admitted = append(admitted, string(desc.Digest))
		return nil
	}})
	var last puller.Progress
	s := spec(ref)
	s.Progress = func(p puller.Progress) { last = p }
	image, err := rt.Pull(t.Context(), s)
	require.NoError(t, err)
	assert.Equal(t, b.Digest, image.Manifest)
	assert.Equal(t, amd64, image.Platform)
	assert.Equal(t, []string{string(a.Digest), string(b.Digest)}, admitted, "before a blob of either")
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

func TestRequirePlatform(t *testing.T) {
	src := newFakeSource()
	layer := random(1, 100)
	ref := src.name(appName, src.image(t, arm64, layer))
	image, err := transfer.New(transfer.Config{Source: src, Store: newMemStore()}).Pull(t.Context(), spec(ref))
	require.NoError(t, err, "what the runtimes of Kubernetes do")
	assert.Equal(t, arm64, image.Platform)

	store := newMemStore()
	rt := transfer.New(transfer.Config{Source: src, Store: store, RequirePlatform: true})
	_, err = rt.Pull(t.Context(), spec(ref))
	require.ErrorIs(t, err, content.ErrNoPlatform)
	assert.ErrorContains(t, err, "linux/arm64")
	assert.Len(t, store.blobs, 1, "the config alone")
	_, err = rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: arm64})
	require.NoError(t, err)
	_, err = rt.Status(t.Context(), spec(ref))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = rt.Status(t.Context(), puller.Spec{Ref: ref, Platform: arm64})
	assert.NoError(t, err)
}

func TestArtifact(t *testing.T) {
	for _, strict := range []bool{false, true} {
		src, store := newFakeSource(), newMemStore()
		m := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example.model",
			Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{src.putBlob("application/x-model", random(1, 5000))},
		}
		ref := src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, m))
		rt := transfer.New(transfer.Config{Source: src, Store: store, RequirePlatform: strict})
		image, err := rt.Pull(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Zero(t, image.Platform)
		assert.Equal(t, 2, src.requests(), "manifest and layer; the empty config comes in its descriptor")
		got, err := rt.Status(t.Context(), spec(ref))
		require.NoError(t, err)
		assert.Equal(t, image, got)
	}
}

func TestAdmit(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	a := src.image(t, amd64, random(1, 100))
	a.Platform = &amd64
	idx := src.index(t, a)
	ref := src.name(appName, idx)
	refusal := errors.New("no signature")
	rt := transfer.New(transfer.Config{Source: src, Store: store, Admit: func(_ context.Context, got reference.Reference, desc ocispec.Descriptor, manifest []byte) error {
		assert.Equal(t, idx.Digest, got.Digest(), "what the name points to")
		assert.Equal(t, ref.Name(), got.Name())
		assert.Equal(t, a.Digest, desc.Digest)
		assert.Equal(t, src.docs[a.Digest], manifest)
		return refusal
	}})
	_, err := rt.Pull(t.Context(), spec(ref))
	assert.ErrorIs(t, err, refusal)
	assert.ErrorIs(t, err, puller.ErrSignatureValidation)
	assert.ErrorIs(t, err, content.ErrRefused)
	assert.True(t, credentials.Stopped(err))
	assert.Empty(t, src.blobGets)
	assert.Empty(t, store.blobs)
}

func TestPlan(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	base := random(9, 500)
	a := src.image(t, amd64, base, random(1, 100))
	a.Platform = &amd64
	b := src.image(t, arm64, base, random(2, 100))
	b.Platform = &arm64
	idx := src.index(t, b, a)
	ref := src.name(appName, idx)
	rt := transfer.New(transfer.Config{Source: src, Store: store})
	_, err := rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: arm64})
	require.NoError(t, err)
	plan, err := rt.Plan(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, idx.Digest, plan.Digest)
	assert.Equal(t, a.Digest, plan.Manifest)
	assert.Equal(t, amd64, plan.Platform)
	require.Len(t, plan.Verdicts, 2)
	assert.True(t, plan.Verdicts[1].Chosen)
	assert.Len(t, plan.Present, 1, "the base")
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

// A Source is believed nothing: bytes, size and media type are compared.
func TestManifestIsChecked(t *testing.T) {
	src := newFakeSource()
	a := src.image(t, amd64, random(1, 100))
	a.Platform = &amd64
	for name, tt := range map[string]struct {
		spoil func(d ocispec.Descriptor) ocispec.Descriptor
		want  content.Kind
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
			_, err := transfer.New(transfer.Config{Source: src, Store: newMemStore()}).Pull(t.Context(), spec(ref))
			assert.Equal(t, tt.want, content.KindOf(err), "%v", err)
			assert.True(t, credentials.Stopped(err))
			src.docs[a.Digest] = []byte(before)
		})
	}
}

// A layer that stands in a manifest many times is fetched once.
func TestEqualLayers(t *testing.T) {
	src, store := newFakeSource(), newMemStore()
	layer := src.putBlob(ocispec.MediaTypeImageLayer, random(1, 100))
	config, _ := json.Marshal(ocispec.Image{Platform: amd64})
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: src.putBlob(ocispec.MediaTypeImageConfig, config)}
	for range 1000 {
		m.Layers = append(m.Layers, layer)
	}
	ref := src.name(appName, src.putDoc(t, ocispec.MediaTypeImageManifest, m))
	_, err := transfer.New(transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, 1, src.blobGets[layer.Digest])
}
