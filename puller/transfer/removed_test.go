package transfer_test

import (
	"context"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A collectedLayout is a Layout from which another process removes an image before each Tag.
type collectedLayout struct {
	*layout.Layout
	beforeTag func()
}

func (l *collectedLayout) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	l.beforeTag()
	return l.Layout.Tag(ctx, ref, desc)
}

// A pull finds a layer of an old image in the store. Another process removes the old image before
// the pull has tagged its own. The pull fetches the layer and succeeds.
func TestAPullFetchesAgainWhatIsRemovedBeforeItsTag(t *testing.T) {
	dir := t.TempDir()
	open := func() *layout.Layout {
		l, err := layout.Open(dir, layout.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		return l
	}
	src, shared := newFakeSource(), random(1, 3000)
	old := src.name("registry.example/team/old:v1", src.image(t, amd64, shared, random(2, 10)))
	ref := src.name(appName, src.image(t, amd64, shared, random(3, 20)))
	other := open()
	store := &collectedLayout{Layout: open(), beforeTag: func() {}}
	rt := newRuntime(t, transfer.Config{Source: src, Store: store})
	_, err := rt.Pull(t.Context(), spec(old))
	require.NoError(t, err)
	removals := 0
	store.beforeTag = func() {
		if removals++; removals > 1 {
			return
		}
		_, err := other.Remove(t.Context(), old)
		require.NoError(t, err)
		ok, err := other.Has(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(shared), Size: 3000})
		require.NoError(t, err)
		require.False(t, ok)
	}
	before := src.requests()
	image, err := rt.Pull(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, 2, removals)
	assert.Equal(t, before+4, src.requests(), "manifest, config, the new layer, and then the shared layer")
	again, err := rt.Status(t.Context(), spec(ref))
	require.NoError(t, err)
	assert.Equal(t, image, again)
}

// If the content is removed before each Tag, the pull fails after ten tries.
func TestAPullEndsIfItsContentIsRemovedEachTime(t *testing.T) {
	src := newFakeSource()
	ref := src.name(appName, src.image(t, amd64, random(1, 3000)))
	dir := t.TempDir()
	l, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	defer l.Close()
	tags := 0
	store := &collectedLayout{Layout: l, beforeTag: func() {
		tags++
		_, err := l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
		require.NoError(t, err)
	}}
	_, err = newRuntime(t, transfer.Config{Source: src, Store: store}).Pull(t.Context(), spec(ref))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, 10, tags)
}
