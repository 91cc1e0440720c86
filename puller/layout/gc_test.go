package layout_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRemoveAndPruneKeepBlobsInUse(t *testing.T) {
	now := time.Now()
	l, err := layout.Open(t.TempDir(), layout.Config{Now: func() time.Time { return now }})
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
	store(t, l, desc, data) // as a running pull does
	in, err := l.Ingest(t.Context(), one.all[0])
	require.NoError(t, err)
	_, err = in.WriteAt([]byte("x"), 0)
	require.NoError(t, err)
	freed, err = l.Prune(t.Context(), layout.PruneConfig{})
	require.NoError(t, err)
	assert.Zero(t, freed, "the blob was used recently")
	now = now.Add(2 * time.Hour)
	freed, err = l.Prune(t.Context(), layout.PruneConfig{})
	require.NoError(t, err)
	assert.Equal(t, content.Removal{Blobs: 1, Bytes: 5000}, freed)
	require.NoError(t, in.Close())
	requirePulled(t, l, two, "two")
}

// RemoveImage removes all names of an image at once, and only if they are those that were
// listed.
func TestRemoveImageRemovesTheListedImageOnly(t *testing.T) {
	l := openTest(t, t.TempDir())
	one, two := newTestImage(t, "registry.example/one:v1", 1, 100, 300<<10), newTestImage(t, "registry.example/two:v1", 2, 100)
	same, moved := *one, *two
	same.ref, moved.ref = reference.MustParse("registry.example/same:v1"), one.ref
	pull := func(imgs ...*testImage) {
		for _, img := range imgs {
			require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
		}
	}
	listed := func() []content.Entry {
		return slices.DeleteFunc(must(l.List(t.Context())), func(e content.Entry) bool { return e.Manifest.Digest != one.manifest.Digest })
	}
	pull(one, two)
	alone := listed()
	pull(&same)
	both := listed()
	require.Len(t, both, 2)
	for what, entries := range map[string][]content.Entry{
		"another name was added":  alone,
		"a name of another image": {both[0], both[1], must(l.List(t.Context()))[1]},
		"one twice":               {both[0], both[0]},
	} {
		removed, err := l.RemoveImage(t.Context(), entries, nil)
		assert.ErrorIs(t, err, content.ErrChanged, what)
		assert.Zero(t, removed, what)
	}
	pull(&moved) // one.ref is a name of the other image now
	_, err := l.RemoveImage(t.Context(), both, nil)
	assert.ErrorIs(t, err, content.ErrChanged)
	requirePulled(t, l, &moved, "moved")
	requirePulled(t, l, &same, "same")
	pull(one)
	size := int64(0)
	for _, desc := range one.all {
		size += desc.Size
	}
	removed, err := l.RemoveImage(t.Context(), listed(), nil)
	require.NoError(t, err)
	assert.Equal(t, content.Removal{Blobs: len(one.all), Bytes: size}, removed)
	assert.Len(t, must(l.List(t.Context())), 1)
	requirePulled(t, l, two, "two")
	_, err = l.RemoveImage(t.Context(), nil, nil)
	assert.Equal(t, content.ErrBadReference, content.ReasonOf(err))
	_, err = l.RemoveImage(t.Context(), []content.Entry{{}}, nil)
	assert.Equal(t, content.ErrBadDigest, content.ReasonOf(err))
}

// If the manifest of another image is damaged, RemoveImage keeps the names too. An image
// whose own manifest is damaged can be removed.
func TestRemoveImageWithADamagedManifest(t *testing.T) {
	l := openTest(t, t.TempDir())
	one, two := newTestImage(t, "registry.example/one:v1", 1, 100), newTestImage(t, "registry.example/two:v1", 2, 100)
	for _, img := range []*testImage{one, two} {
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	}
	flip(t, l, two.manifest)
	entries := must(l.List(t.Context()))
	require.Len(t, entries, 2)
	removed, err := l.RemoveImage(t.Context(), entries[:1], nil)
	require.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	assert.Contains(t, err.Error(), "run Repair")
	assert.Zero(t, removed)
	_, err = l.Lookup(t.Context(), one.ref)
	require.NoError(t, err, "the name is kept")
	removed, err = l.RemoveImage(t.Context(), entries[1:], nil)
	require.NoError(t, err)
	assert.Positive(t, removed.Blobs)
	_, err = l.Lookup(t.Context(), two.ref)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	for _, desc := range two.all[1:] {
		if !slices.ContainsFunc(one.all, func(d ocispec.Descriptor) bool { return d.Digest == desc.Digest }) {
			assert.False(t, must(l.Has(t.Context(), desc)), desc.Digest)
		}
	}
	requirePulled(t, l, one, "one")
}

// The room of a blob whose file has another name is not free after the blob's removal.
func TestARemovedHardLinkFreesNothing(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/one:v1", 1, 300<<10)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	var linked, all int64
	for _, desc := range img.all {
		all += desc.Size
		if desc.Size == 300<<10 {
			linked = desc.Size
			require.NoError(t, os.Link(filepath.Join(l.Dir(), ocilayout.BlobName(desc.Digest)), filepath.Join(t.TempDir(), "file")))
		}
	}
	require.NotZero(t, linked)
	removed, err := l.RemoveImage(t.Context(), must(l.List(t.Context())), nil)
	require.NoError(t, err)
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		linked = 0
	}
	assert.Equal(t, content.Removal{Blobs: len(img.all), Bytes: all - linked}, removed)
}

// A pull finds a blob. Before the pull tags, another process removes the image that the
// blob belonged to.
func TestTagFailsAfterARemovalDuringThePull(t *testing.T) {
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
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img), "the second pull")
	requirePulled(t, l, img, "the second pull")
}

// This is TestTagFailsAfterARemovalDuringThePull for a layout that is opened during the
// removal, and that finds a blob which is removed next.
func TestTagFailsIfTheLayoutWasOpenedDuringARemoval(t *testing.T) {
	mem, img := disktest.New(), newTestImage(t, "registry.example/one:v1", 1, 100)
	var late *layout.Layout
	remover, err := layout.OpenDisk("mem", disktest.Before(mem.Process(), func(op, name string) error {
		if op != "remove" || !strings.HasPrefix(name, blobsDir) || late != nil {
			return nil
		}
		late = must(layout.OpenDisk("mem", mem.Process(), layout.Config{}))
		for _, desc := range img.all {
			assert.True(t, must(late.Has(t.Context(), desc)))
		}
		return nil
	}),

		layout.Config{})
	require.NoError(t, err)
	require.NoError(t, (&testPuller{l: remover}).pull(t.Context(), img))
	_, err = remover.Remove(t.Context(), img.ref)
	require.NoError(t, err)
	store(t, late, img.index, img.data[img.index.Digest])
	assert.ErrorIs(t, late.Tag(t.Context(), img.ref, img.index), fs.ErrNotExist)
}

// Remove keeps blobs if a damaged manifest may use them.
func TestRemoveKeepsBlobsIfAManifestIsDamaged(t *testing.T) {
	l := openTest(t, t.TempDir())
	one, two := newTestImage(t, "registry.example/one:v1", 1, 100), newTestImage(t, "registry.example/two:v1", 2, 100)
	for _, img := range []*testImage{one, two} {
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	}
	flip(t, l, two.manifest)
	_, err := l.Remove(t.Context(), one.ref)
	require.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	_, err = l.Lookup(t.Context(), one.ref)
	assert.ErrorIs(t, err, fs.ErrNotExist, "the name is removed")
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), two))
	_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	requirePulled(t, l, two, "two")
}

// A Tag sees each removal since its layout was opened, even if the clock is stopped and the
// file of the removal has the inode number of the last one.
func TestTagSeesARemovalWhenTheClockIsStopped(t *testing.T) {
	mem := disktest.New()
	mem.StopClock()
	other := must(openMem(mem.Process()))
	img := newTestImage(t, "registry.example/one:v1", 1, 100)
	for range 3 {
		require.NoError(t, (&testPuller{l: other}).pull(t.Context(), img))
		l := must(openMem(mem.Process()))
		for _, desc := range img.all {
			require.True(t, must(l.Has(t.Context(), desc)))
		}
		_, err := other.Remove(t.Context(), img.ref)
		require.NoError(t, err)
		store(t, l, img.index, img.data[img.index.Digest])
		assert.ErrorIs(t, l.Tag(t.Context(), img.ref, img.index), fs.ErrNotExist)
		require.NoError(t, l.Close())
	}
}

// If an index lists one manifest a thousand times, the manifest is read once.
func TestRepeatedManifestIsReadOnce(t *testing.T) {
	reads := 0
	l := must(layout.OpenDisk("mem", disktest.Before(disktest.New().Process(), func(op, _ string) error {
		if op == "read" {
			reads++
		}
		return nil
	}),

		layout.Config{}))
	img, gone := newTestImage(t, "registry.example/one:v1", 1, 100), newTestImage(t, "registry.example/gone:v1", 2, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), gone))
	_, err := l.Remove(t.Context(), gone.ref) // from now on a Tag looks for all content
	require.NoError(t, err)
	var index ocispec.Index
	for range 1000 {
		index.Manifests = append(index.Manifests, img.manifest)
	}
	data := jsonOf(t, index)
	desc := descOf(ocispec.MediaTypeImageIndex, data)
	for _, d := range img.all {
		store(t, l, d, img.data[d.Digest])
	}
	store(t, l, desc, data)
	reads = 0
	require.NoError(t, l.Tag(t.Context(), img.ref, desc))
	images, err := l.List(t.Context())
	require.NoError(t, err)
	require.Len(t, images, 1)
	assert.Equal(t, img.manifest.Digest, images[0].Manifest.Digest, "the entry is the only image of the index")
	assert.Less(t, reads, 50, "reads of all files")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, l.Tag(ctx, img.ref, desc), context.Canceled)
}

// Layouts pull, remove and prune at the same time. An image that Tag accepted is
// complete. A Tag that fails says that content is missing.
func TestTaggedImagesAreCompleteDuringRemovals(t *testing.T) {
	mem, dir := disktest.New(), t.TempDir()
	for name, open := range map[string]func() (*layout.Layout, error){
		"in memory": func() (*layout.Layout, error) { return openMem(mem.Process()) },
		"on disk":   func() (*layout.Layout, error) { return layout.Open(dir, layout.Config{}) },
	} {
		t.Run(name, func(t *testing.T) {
			layouts := []*layout.Layout{must(open()), must(open()), must(open())}
			images := []*testImage{newTestImage(t, "a.example/x:v1", 1, 100, 3000), newTestImage(t, "a.example/x:v1", 2, 5)}
			var wg sync.WaitGroup
			for g := range uint64(6) {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(g, 3))
					for i := range 25 {
						img := *images[r.IntN(len(images))]
						img.ref = reference.MustParse(fmt.Sprintf("a.example/g%d:v%d", g, i))
						one, other := layouts[r.IntN(3)], layouts[r.IntN(3)]
						useAndRemove(t, one, other, &img, r)
					}
				})
			}
			wg.Wait()
			for d, err := range layouts[0].Verify(t.Context()) {
				assert.NoError(t, err, d)
			}
			for _, l := range layouts {
				require.NoError(t, l.Close())
			}
		})
	}
}

func useAndRemove(t *testing.T, one, other *layout.Layout, img *testImage, r *rand.Rand) {
	if err := (&testPuller{l: one}).pull(t.Context(), img); err != nil {
		assert.ErrorIs(t, err, fs.ErrNotExist)
		return
	}
	got, err := other.Lookup(t.Context(), img.ref)
	assert.NoError(t, err)
	assert.Equal(t, img.index.Digest, got.Digest)
	for _, desc := range img.all {
		ok, err := other.Has(t.Context(), desc)
		assert.NoError(t, err)
		assert.True(t, ok, "Tag accepted it, and %s is missing", desc.Digest)
	}
	if r.IntN(3) > 0 {
		_, err = other.Remove(t.Context(), img.ref)
		assert.NoError(t, err)
	}
	if r.IntN(3) > 0 {
		_, err = other.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
		assert.NoError(t, err)
	}
}

// A noTimesFS is a file system that does not keep the times of access that were set.
type noTimesFS struct {
	disk.FS
	answer func(set time.Time) time.Time
}

func (f noTimesFS) Accessed(fi fs.FileInfo) time.Time { return f.answer(f.FS.Accessed(fi)) }

// Without times of access, Prune uses the layout's notes. It removes blobs older than
// MinAge, and keeps blobs that a pull stored or found.
func TestPruneUsesNotesWithoutAccessTimes(t *testing.T) {
	for name, answer := range map[string]func(time.Time) time.Time{
		"none":             func(time.Time) time.Time { return time.Time{} },
		"modification's":   func(time.Time) time.Time { return stamp },
		"the date alone":   func(at time.Time) time.Time { return at.Truncate(24 * time.Hour) },
		"long ago for all": func(time.Time) time.Time { return time.Unix(0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
			mem := disktest.New()
			l := must(layout.OpenDisk("mem", noTimesFS{mem.Process(), answer}, layout.Config{Now: func() time.Time { return now }}))
			found, kept := blobOf(1, 100)
			data, stored := blobOf(2, 100)
			store(t, l, kept, found)
			store(t, l, stored, data)
			prune := func(want int, why string) {
				t.Helper()
				freed, err := l.Prune(t.Context(), layout.PruneConfig{})
				require.NoError(t, err)
				assert.Equal(t, want, freed.Blobs, why)
			}
			prune(0, "both were stored just now")
			now = now.Add(59 * time.Minute)
			ok, err := l.Has(t.Context(), kept)
			require.NoError(t, err)
			require.True(t, ok)
			prune(0, "an hour is not over")
			now = now.Add(2 * time.Minute)
			prune(1, "one was found by a pull two minutes ago")
			ok, err = l.Has(t.Context(), stored)
			require.NoError(t, err)
			assert.False(t, ok)
			now = now.Add(2 * time.Hour)
			prune(1, "nobody came back")
			assert.Empty(t, must(mem.Process().ReadDir(usedDir)), "the notes go with the blobs")
		})
	}
}

// If the last use of a blob is not known, Prune keeps the blob, and removes it when it
// has seen it unused for MinAge.
func TestPruneKeepsABlobWhoseLastUseIsNotKnown(t *testing.T) {
	now := time.Now()
	mem := disktest.New()
	l := must(layout.OpenDisk("mem", noTimesFS{mem.Process(), func(time.Time) time.Time { return time.Time{} }}, layout.Config{Now: func() time.Time { return now }}))
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	notes := must(mem.Process().ReadDir(usedDir))
	require.Len(t, notes, 1)
	require.NoError(t, mem.Process().Remove(usedDir+"/"+notes[0].Name()))
	for _, want := range []int{0, 0, 1} {
		freed, err := l.Prune(t.Context(), layout.PruneConfig{})
		require.NoError(t, err)
		assert.Equal(t, want, freed.Blobs)
		now = now.Add(40 * time.Minute)
	}
}

// If the file system keeps times of access, the layout writes no notes.
func TestNoNotesWithAccessTimes(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	fsys := must(disk.Open(l.Dir()))
	defer fsys.Close()
	_, err := fsys.Lstat(usedDir)
	assert.Equal(t, fsys.Accessed(must(fsys.Lstat(ocilayout.BlobName(desc.Digest)))).IsZero(), err == nil)
}

// A process dies between the stamp of a partial and its rename. The bytes that arrived
// are kept, although the stamped partial looks old by its modification time.
func TestStampedPartialIsKept(t *testing.T) {
	for name, answer := range map[string]func(time.Time) time.Time{
		"kept":             func(at time.Time) time.Time { return at },
		"none":             func(time.Time) time.Time { return time.Time{} },
		"modification's":   func(time.Time) time.Time { return stamp },
		"long ago for all": func(time.Time) time.Time { return time.Unix(0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			mem, now := disktest.New(), time.Now()
			cfg := layout.Config{Now: func() time.Time { return now }}
			dead := false
			l := must(layout.OpenDisk("mem", disktest.Before(noTimesFS{mem.Process(), answer}, func(op, name string) error {
				if dead = dead || op == "sync" && strings.HasSuffix(name, partSuffix); dead {
					return disktest.ErrDead
				}
				return nil
			}),

				cfg))
			data, desc := blobOf(1, 300<<10)
			in := must(l.Ingest(t.Context(), desc))
			_, err := in.WriteAt(data, 0)
			require.NoError(t, err)
			require.Error(t, in.Commit(t.Context()))

			mem = mem.Crash(disktest.KeepAll) // the process's locks are gone, its files are there
			kept := func() int64 {
				l := must(layout.OpenDisk("mem", noTimesFS{mem.Process(), answer}, cfg))
				defer func() { require.NoError(t, l.Close()) }()
				return must(l.Kept(t.Context(), desc))
			}
			require.True(t, must(mem.Process().Lstat(partName(desc.Digest))).ModTime().Equal(stamp), "the process died before it set the time")
			assert.EqualValues(t, len(data), kept())
			now = now.Add(23 * time.Hour)
			assert.EqualValues(t, len(data), kept(), "it is younger than PartialAge")
			now = now.Add(2 * time.Hour)
			assert.Zero(t, kept(), "it was not written to for longer than PartialAge")
		})
	}
}

// Prune with a negative MinAge removes a stamped partial of a dead process.
func TestStampedPartialIsPruned(t *testing.T) {
	mem := disktest.New()
	l := must(layout.OpenDisk("mem", mem.Process(), layout.Config{}))
	data, desc := blobOf(1, 1000)
	in := must(l.Ingest(t.Context(), desc))
	_, err := in.WriteAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	require.NoError(t, mem.Process().Chtimes(partName(desc.Digest), time.Now(), stamp))
	_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	assert.Zero(t, must(l.Kept(t.Context(), desc)))
}

func TestSweepRemovesOldFilesThatAreNotInUse(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	cfg := layout.Config{Now: func() time.Time { return now }}
	l, err := layout.Open(dir, cfg)
	require.NoError(t, err)
	defer l.Close()
	data, desc := blobOf(1, 600<<10)
	_, busy := blobOf(2, 600<<10)
	for _, d := range []ocispec.Descriptor{desc, busy} {
		in, err := l.Ingest(t.Context(), d)
		require.NoError(t, err)
		for _, off := range []int64{0, 400 << 10} { // a gap, and so a side list
			_, err = in.WriteAt(data[:200<<10], off)
			require.NoError(t, err)
		}
		if d.Digest == desc.Digest {
			require.NoError(t, in.Close())
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, tempPrefix+"dead"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, stateDir, "sha256-dead.lock"), nil, 0o644))
	names := func() []string { return stateNames(t, l) }
	openTest(t, dir)
	assert.Len(t, names(), 7, "all files are young")
	now = now.Add(25 * time.Hour)
	for _, n := range []int{3, 3} {
		other, err := layout.Open(dir, cfg)
		require.NoError(t, err)
		require.NoError(t, other.Close())
		assert.Len(t, names(), n, "files in use are kept")
	}
	assert.Contains(t, names(), filepath.Base(partName(busy.Digest)))
}

// Sweeps go on after the clock was set back.
func TestSweepsGoOnAfterTheClockWasSetBack(t *testing.T) {
	now := time.Now()
	l, err := layout.Open(t.TempDir(), layout.Config{Now: func() time.Time { return now }})
	require.NoError(t, err)
	defer l.Close()
	_, desc := blobOf(1, 100)
	sweep := func() {
		in, err := l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		require.NoError(t, in.Close())
	}
	now = now.Add(100 * 365 * 24 * time.Hour)
	sweep()
	now = now.Add(-100 * 365 * 24 * time.Hour)
	require.NoError(t, os.WriteFile(filepath.Join(l.Dir(), tempPrefix+"old"), nil, 0o644))
	now = now.Add(25 * time.Hour)
	sweep()
	assert.NoFileExists(t, filepath.Join(l.Dir(), tempPrefix+"old"))
}
