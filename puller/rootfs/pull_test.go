package rootfs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
)

// A gatedSource calls gate before it returns a blob.
type gatedSource struct {
	content.Source
	gate func(ctx context.Context, desc ocispec.Descriptor) error
}

func (s gatedSource) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	if err := s.gate(ctx, desc); err != nil {
		return content.Body{}, err
	}
	return s.Source.Blob(ctx, repo, desc, off, n)
}

// A memSource is a registry with one image.
type memSource struct {
	store *pullertest.MemStore
	desc  ocispec.Descriptor
}

func (s memSource) Manifest(ctx context.Context, _ content.Repo, _ digest.Digest) (content.Document, error) {
	f, err := s.store.Open(ctx, s.desc)
	if err != nil {
		return content.Document{}, err
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(f)
	return content.Document{Desc: s.desc, Body: b.Bytes()}, err
}

func (s memSource) Blob(ctx context.Context, _ content.Repo, desc ocispec.Descriptor, off, _ int64) (content.Body, error) {
	f, err := s.store.Open(ctx, desc)
	if err != nil {
		return content.Body{}, err
	}
	return content.Body{ReadCloser: f}, nil
}

const pulled = "registry.example/app:v1"

// pullFrom returns a function for Pull that pulls an image of a source into a store.
func pullFrom(t *testing.T, source content.Source, store content.Store) func(ctx context.Context, events func(puller.Event)) (puller.Image, error) {
	rt, err := transfer.New(transfer.Config{Store: store, Source: source, MaxBlobs: 2})
	require.NoError(t, err)
	return func(ctx context.Context, events func(puller.Event)) (puller.Image, error) {
		p, err := puller.New(puller.Config{Runtime: rt, Events: events, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}})
		require.NoError(t, err)
		return p.Pull(ctx, puller.Request{Image: pulled})
	}
}

// The last layer is not sent before the first layers are applied. The directory appears after the
// pull.
func TestLayersAreUnpackedWhileOthersStillCome(t *testing.T) {
	layers := []testLayer{layerOf(t, file("a", "1")), layerOf(t, file("b", "2")), layerOf(t, file("c", "3"))}
	from := new(pullertest.MemStore)
	desc := putImage(t, from, layers...)
	parent := t.TempDir()
	dir := filepath.Join(parent, "dir")
	source := gatedSource{memSource{from, desc}, func(ctx context.Context, d ocispec.Descriptor) error {
		if d.Digest != digestOf(layers[2].blob) {
			return nil
		}
		for { // until the layers before it are applied
			if _, err := os.Stat(filepath.Join(parent, ".dir.pullkit", "files", rootName, "b")); err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}}
	store := new(pullertest.MemStore)
	pull := pullFrom(t, source, store)
	img, r, err := Pull(t.Context(), store, dir, Config{}, func(ctx context.Context, events func(puller.Event)) (puller.Image, error) {
		img, err := pull(ctx, events)
		assert.NoDirExists(t, dir, "before the pull has succeeded")
		return img, err
	})
	require.NoError(t, err)
	assert.Equal(t, desc.Digest, img.Manifest)
	assert.Equal(t, desc.Digest, r.Manifest)
	assert.Equal(t, map[string]string{"a": "1", "b": "2", "c": "3"}, contents(t, filepath.Join(dir, rootName)))
	requireOnly(t, parent, "dir")

	// The image is stored, so the pull does not report progress. In the second round the directory
	// exists too.
	again := filepath.Join(parent, "again")
	for _, present := range []bool{false, true} {
		_, r, err = Pull(t.Context(), store, again, Config{}, pull)
		require.NoError(t, err)
		assert.Equal(t, present, r.Present)
	}
	assert.Equal(t, map[string]string{"a": "1", "b": "2", "c": "3"}, contents(t, filepath.Join(again, rootName)))

	// Pull works without the events.
	silent := new(pullertest.MemStore)
	_, _, err = Pull(t.Context(), silent, filepath.Join(parent, "silent"), Config{}, func(ctx context.Context, _ func(puller.Event)) (puller.Image, error) {
		return pullFrom(t, memSource{from, desc}, silent)(ctx, nil)
	})
	require.NoError(t, err)
}

func TestAPullThatFailsLeavesNothing(t *testing.T) {
	layers := []testLayer{layerOf(t, file("a", "1")), layerOf(t, file("b", "2"))}
	from := new(pullertest.MemStore)
	desc := putImage(t, from, layers...)
	dir := filepath.Join(t.TempDir(), "dir")
	refused := errors.New("refused")
	store := new(pullertest.MemStore)
	_, _, err := Pull(t.Context(), store, dir, Config{}, pullFrom(t, gatedSource{memSource{from, desc}, func(_ context.Context, d ocispec.Descriptor) error {
		if d.Digest == digestOf(layers[1].blob) {
			return refused
		}
		return nil
	}}, store))
	assert.ErrorIs(t, err, refused)
	requireOnly(t, filepath.Dir(dir))
	// The next call uses the blobs that have arrived.
	_, _, err = Pull(t.Context(), store, dir, Config{}, pullFrom(t, gatedSource{memSource{from, desc}, func(_ context.Context, d ocispec.Descriptor) error {
		assert.NotEqual(t, digestOf(layers[0].blob), d.Digest, "it is fetched again")
		return nil
	}}, store))
	require.NoError(t, err)
}

// If the root file system cannot be made, the pull ends before all layers have arrived.
func TestABadLayerEndsThePull(t *testing.T) {
	bad := layerOf(t, head('Y', "odd", ""))
	never := layerOf(t, file("b", "2"))
	from := new(pullertest.MemStore)
	desc := putImage(t, from, bad, never)
	dir := filepath.Join(t.TempDir(), "dir")
	store := new(pullertest.MemStore)
	_, _, err := Pull(t.Context(), store, dir, Config{}, pullFrom(t, gatedSource{memSource{from, desc}, func(ctx context.Context, d ocispec.Descriptor) error {
		if d.Digest == digestOf(never.blob) {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}}, store))
	assert.ErrorIs(t, err, ErrBadLayer)
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, digestOf(bad.blob), e.Layer)
	requireOnly(t, filepath.Dir(dir))
}

// The events have the manifest of another image than the one that the pull returns. Pull makes
// the root file system of the image that was pulled.
func TestTheImageThatWasPulledIsUnpackedIfTheEventsHaveAnother(t *testing.T) {
	store := new(pullertest.MemStore)
	first := putImage(t, store, layerOf(t, file("a", "1")))
	second := putImage(t, store, layerOf(t, file("a", "2")))
	dir := filepath.Join(t.TempDir(), "dir")
	pull := pullFrom(t, memSource{store, second}, store)
	_, r, err := Pull(t.Context(), store, dir, Config{}, func(ctx context.Context, _ func(puller.Event)) (puller.Image, error) {
		return pull(ctx, nil)
	})
	require.NoError(t, err)
	assert.Equal(t, second.Digest, r.Manifest)
	other := filepath.Join(filepath.Dir(dir), "other")
	_, r, err = Pull(t.Context(), store, other, Config{}, func(ctx context.Context, events func(puller.Event)) (puller.Image, error) {
		events(puller.Event{Progress: &puller.Progress{Manifest: &first}})
		return pull(ctx, events)
	})
	require.NoError(t, err)
	assert.Equal(t, second.Digest, r.Manifest)
	assert.Equal(t, map[string]string{"a": "2"}, contents(t, filepath.Join(other, rootName)))
}

// Pull works with a layout as its store, also with a layout that is Volatile.
func TestPullWorksWithALayout(t *testing.T) {
	from := new(pullertest.MemStore)
	desc := putImage(t, from, layerOf(t, file("a", repeated("x", 3<<20))), layerOf(t, hardlink("b", "a")))
	for _, volatile := range []bool{false, true} {
		store, err := layout.Open(filepath.Join(t.TempDir(), "images"), layout.Config{Volatile: volatile})
		require.NoError(t, err)
		dir := filepath.Join(t.TempDir(), "dir")
		_, r, err := Pull(t.Context(), store, dir, Config{MaxRatio: 5000}, pullFrom(t, memSource{from, desc}, store))
		require.NoError(t, err)
		assert.EqualValues(t, 3<<20, r.Bytes)
		require.NoError(t, store.Close())
	}
}
