package layout

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRemoveAndPrune(t *testing.T) {
	now := time.Now()
	l, err := OpenConfig(t.TempDir(), Config{Now: func() time.Time { return now }})
	require.NoError(t, err)
	defer l.Close()
	one, two := newTestImage(t, "registry.example/one:v1", 1, 100, 300<<10), newTestImage(t, "registry.example/two:v1", 2, 100)
	same := *one
	same.ref = reference.MustParse("registry.example/same:v1")
	for _, img := range []*testImage{one, two, &same} {
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	}
	freed, err := l.Remove(t.Context(), one.ref)
	require.NoError(t, err)
	assert.Zero(t, freed, "another name leads to all of it")
	requirePulled(t, l, &same, "same")
	freed, err = l.Remove(t.Context(), same.ref)
	require.NoError(t, err)
	assert.Equal(t, len(one.all), freed.Blobs)
	requirePulled(t, l, two, "two")
	_, err = l.Remove(t.Context(), same.ref)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	images, err := l.List(t.Context())
	require.NoError(t, err)
	require.Len(t, images, 1)
	assert.Equal(t, two.ref, images[0].Ref)

	data, desc := blobOf(9, 5000)
	store(t, l, desc, data) // as a pull under way does
	in, err := l.Ingest(t.Context(), one.all[0])
	require.NoError(t, err)
	_, err = in.WriteAt([]byte("x"), 0)
	require.NoError(t, err)
	freed, err = l.Prune(t.Context(), PruneConfig{})
	require.NoError(t, err)
	assert.Zero(t, freed, "it was used of late")
	now = now.Add(2 * time.Hour)
	freed, err = l.Prune(t.Context(), PruneConfig{})
	require.NoError(t, err)
	assert.Equal(t, Freed{Blobs: 1, Bytes: 5000}, freed)
	require.NoError(t, in.Close())
	requirePulled(t, l, two, "two")
}

// A pull finds a blob there, and before it tags, somebody removes the image
// that the blob belonged to.
func TestRemoveUnderAPull(t *testing.T) {
	dir := t.TempDir()
	l, other := openTest(t, dir), openTest(t, dir)
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: other}).pull(t.Context(), img))
	ref := reference.MustParse("registry.example/same:v1")
	for _, desc := range img.all[:2] {
		ok, err := l.Has(t.Context(), desc)
		require.NoError(t, err)
		require.True(t, ok)
	}
	_, err := other.Remove(t.Context(), img.ref)
	require.NoError(t, err)
	for _, desc := range img.all[2:] { // fetched by the pull
		store(t, l, desc, img.data[desc.Digest])
	}
	err = l.Tag(t.Context(), ref, img.index)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = l.Lookup(t.Context(), ref)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img), "the next try")
	requirePulled(t, l, img, "the next try")
}

// The same for a layout that is opened while blobs are being removed, and finds
// one there that goes next.
func TestOpenedDuringRemoval(t *testing.T) {
	mem, img := disktest.New(), newTestImage(t, "registry.example/one:v1", 1, 100)
	var late *Layout
	remover, err := openFS("mem", disktest.Before(mem.Process(), func(op, name string) error {
		if op != "remove" || !strings.HasPrefix(name, blobsDir) || late != nil {
			return nil
		}
		late = must(openFS("mem", mem.Process(), Config{}))
		for _, desc := range img.all {
			assert.True(t, must(late.Has(t.Context(), desc)))
		}
		return nil
	}),

		Config{})
	require.NoError(t, err)
	require.NoError(t, (&testPuller{l: remover}).pull(t.Context(), img))
	_, err = remover.Remove(t.Context(), img.ref)
	require.NoError(t, err)
	store(t, late, img.index, img.data[img.index.Digest])
	assert.ErrorIs(t, late.Tag(t.Context(), img.ref, img.index), fs.ErrNotExist)
}

// Remove keeps blobs while it cannot know who uses them.
func TestRemoveWithDamagedManifest(t *testing.T) {
	l := openTest(t, t.TempDir())
	one, two := newTestImage(t, "registry.example/one:v1", 1, 100), newTestImage(t, "registry.example/two:v1", 2, 100)
	for _, img := range []*testImage{one, two} {
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	}
	flip(t, l, two.manifest)
	_, err := l.Remove(t.Context(), one.ref)
	require.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
	_, err = l.Lookup(t.Context(), one.ref)
	assert.ErrorIs(t, err, fs.ErrNotExist, "the name is gone all the same")
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), two))
	_, err = l.Prune(t.Context(), PruneConfig{MinAge: -1})
	require.NoError(t, err)
	requirePulled(t, l, two, "two")
}

// Two words of a removal differ, though the clock stands still and the second file
// is the first one's place again.
func TestWordsOfRemovalsDiffer(t *testing.T) {
	mem := disktest.New()
	mem.StopClock()
	l := must(openMem(mem.Process()))
	var times []time.Time
	for range 2 {
		require.NoError(t, l.newEpoch())
		times = append(times, must(l.fs.Lstat(epochName)).ModTime())
	}
	assert.NotEqual(t, times[0], times[1])
}

// An index that names one manifest a thousand times has it read once.
func TestRepeatedManifestIsReadOnce(t *testing.T) {
	reads := 0
	l := must(openFS("mem", disktest.Before(disktest.New().Process(), func(op, _ string) error {
		if op == "read" {
			reads++
		}
		return nil
	}),

		Config{}))
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	store(t, l, img.manifest, img.data[img.manifest.Digest]) // its parts are missing
	var index ocispec.Index
	for range 1000 {
		index.Manifests = append(index.Manifests, img.manifest)
	}
	data := jsonOf(t, index)
	desc := descOf(ocispec.MediaTypeImageIndex, data)
	store(t, l, desc, data)
	reads = 0
	ok, err := l.complete(t.Context(), desc)
	require.NoError(t, err)
	assert.False(t, ok)
	only, err := ocilayout.OnlyImage(t.Context(), documents{l.blobs}, desc)
	require.NoError(t, err)
	assert.Equal(t, desc.Digest, only.Digest)
	assert.Equal(t, 4, reads)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.complete(ctx, desc)
	assert.ErrorIs(t, err, context.Canceled)
}
