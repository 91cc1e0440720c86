package layout

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func pathOf(l *Layout, desc ocispec.Descriptor) string {
	return filepath.Join(l.Dir(), filepath.FromSlash(blobName(desc.Digest)))
}

// flip changes a bit of a blob as an editor would.
func flip(t testing.TB, l *Layout, desc ocispec.Descriptor) {
	f, err := os.OpenFile(pathOf(l, desc), os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, desc.Size/2)
	require.NoError(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, desc.Size/2)
	require.NoError(t, err)
}

// rot changes a bit as a disk would: no time tells.
func rot(t testing.TB, l *Layout, desc ocispec.Descriptor) {
	flip(t, l, desc)
	require.NoError(t, os.Chtimes(pathOf(l, desc), time.Now(), stamp))
}

func TestDamageIsFetchedAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t testing.TB, l *Layout, desc ocispec.Descriptor)
	}{
		{"flip", flip},
		{"truncate", func(t testing.TB, l *Layout, desc ocispec.Descriptor) {
			require.NoError(t, os.Truncate(pathOf(l, desc), desc.Size/2))
		}},
		{"truncate, time kept", func(t testing.TB, l *Layout, desc ocispec.Descriptor) {
			require.NoError(t, os.Truncate(pathOf(l, desc), desc.Size/2))
			require.NoError(t, os.Chtimes(pathOf(l, desc), stamp, stamp))
		}},
		{"link to another blob", func(t testing.TB, l *Layout, desc ocispec.Descriptor) {
			require.NoError(t, os.Rename(pathOf(l, desc), pathOf(l, desc)+"x"))
			require.NoError(t, os.Symlink(filepath.Base(pathOf(l, desc))+"x", pathOf(l, desc)))
		}},
		{"gone", func(t testing.TB, l *Layout, desc ocispec.Descriptor) {
			require.NoError(t, os.Remove(pathOf(l, desc)))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := openTest(t, t.TempDir())
			img := newTestImage(t, "registry.example/team/one:v1", 1, 100, 300<<10)
			require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
			for _, desc := range img.all {
				tt.damage(t, l, desc)
				_, err := l.Open(t.Context(), desc)
				assert.ErrorIs(t, err, fs.ErrNotExist)
				ok, err := l.Has(t.Context(), desc)
				require.NoError(t, err)
				assert.False(t, ok)
				p := &testPuller{l: l}
				require.NoError(t, p.pull(t.Context(), img))
				assert.Equal(t, desc.Size, p.fetched.Load(), "only the damaged blob is fetched")
				requirePulled(t, l, img, tt.name)
			}
		})
	}
}

// A blob that somebody else put there, or touched, is used once it was hashed.
func TestForeignBlobIsHashed(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1000)
	require.NoError(t, l.ready(desc.Digest))
	require.NoError(t, os.WriteFile(pathOf(l, desc), data, 0o644))
	ok, err := l.Has(t.Context(), desc)
	require.NoError(t, err)
	assert.True(t, ok)
	fi, err := os.Stat(pathOf(l, desc))
	require.NoError(t, err)
	assert.True(t, fi.ModTime().Equal(stamp), "it is not hashed twice")
}

func TestVerify(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/one:v1", 1, 100, 300<<10)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	seen := 0
	for d, err := range l.Verify(t.Context()) {
		require.NoError(t, err, d)
		seen++
	}
	assert.Equal(t, len(img.all), seen)

	rotten := img.all[2]
	rot(t, l, rotten)
	ok, err := l.Has(t.Context(), rotten)
	require.NoError(t, err)
	require.True(t, ok, "size and time do not tell")
	var bad, gone []digest.Digest
	for d, err := range l.Verify(t.Context()) {
		switch content.KindOf(err) {
		case content.ErrDigestMismatch:
			bad = append(bad, d)
		case content.ErrNotFound:
			gone = append(gone, d)
		default:
			require.NoError(t, err)
		}
	}
	assert.Equal(t, []digest.Digest{rotten.Digest}, bad)
	assert.Equal(t, []digest.Digest{img.index.Digest}, gone, "the image is not whole")
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	requirePulled(t, l, img, "after the next pull")

	for range l.Verify(t.Context()) {
		break // to leave early is allowed
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for d, err := range l.Verify(ctx) {
		assert.Empty(t, d)
		assert.ErrorIs(t, err, context.Canceled)
	}
}

// Links planted for the directories: nothing is written through them.
func TestPlantedDirectoryLinks(t *testing.T) {
	for _, name := range []string{"blobs", "blobs/sha256", stateDir} {
		for _, inside := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir, elsewhere := t.TempDir(), t.TempDir()
				if inside {
					elsewhere = filepath.Join(dir, "blobs-elsewhere")
					require.NoError(t, os.Mkdir(elsewhere, 0o755))
				}
				plant := func() {
					require.NoError(t, os.RemoveAll(filepath.Join(dir, name)))
					require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
					require.NoError(t, os.Symlink(elsewhere, filepath.Join(dir, name)))
				}
				data, desc := blobOf(1, 100)
				untouched := func() {
					entries, err := os.ReadDir(elsewhere)
					require.NoError(t, err)
					assert.Empty(t, entries)
				}
				var l *Layout
				if !inside { // a directory with something strange is refused at once
					plant()
					var err error
					if l, err = Open(dir); err == nil {
						_, err = l.Ingest(t.Context(), desc)
						l.Close()
					}
					assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
					untouched()
					require.NoError(t, os.Remove(filepath.Join(dir, name)))
				} else {
					require.NoError(t, os.WriteFile(filepath.Join(dir, layoutName), []byte(layoutVersion), 0o644))
				}
				l = openTest(t, dir)
				store(t, l, desc, data)
				_, desc = blobOf(2, 100)
				plant()
				_, err := l.Ingest(t.Context(), desc)
				assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
				untouched()
			})
		}
	}
}

// Links planted for files are replaced, or refused.
func TestPlantedFileLinks(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(outside, []byte("precious"), 0o644))
	data, desc := blobOf(1, 300<<10)
	hash := desc.Digest.Encoded()
	ref := reference.MustParse("busybox:1.36")
	for _, name := range []string{
		blobsDir + "/sha256/" + hash, partName(desc.Digest), listName(desc.Digest), lockName,
		stateDir + "/" + indexName + ".new", indexName, layoutName, removalName,
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			dir := t.TempDir()
			openTest(t, dir).ready(desc.Digest)
			path := filepath.Join(dir, filepath.FromSlash(name))
			os.Remove(path)
			require.NoError(t, os.Symlink(outside, path))
			l, err := Open(dir)
			var in content.Ingest
			if err == nil {
				defer l.Close()
				in, err = l.Ingest(t.Context(), desc)
			}
			if err == nil {
				_, err = in.WriteAt(data, 0)
				require.NoError(t, err)
				require.NoError(t, in.Commit(t.Context()))
				err = l.Tag(t.Context(), ref, desc)
			}
			if err == nil {
				_, err = l.Remove(t.Context(), ref)
			}
			if err != nil {
				assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
			}
			got, err := os.ReadFile(outside)
			require.NoError(t, err)
			assert.Equal(t, "precious", string(got))
		})
	}
}

func TestBlobsAsFS(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/one:v1", 1, 0, 100, 300<<10)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	var names []string
	for _, desc := range img.all {
		names = append(names, "sha256/"+desc.Digest.Encoded())
	}
	require.NoError(t, fstest.TestFS(l.FS(), names...))
	data, err := fs.ReadFile(l.FS(), names[2])
	require.NoError(t, err)
	assert.True(t, bytes.Equal(img.data[img.all[2].Digest], data))
	f, err := l.FS().Open(names[2])
	require.NoError(t, err)
	defer f.Close()
	_, err = f.(io.Seeker).Seek(50, io.SeekStart)
	require.NoError(t, err)

	for _, name := range []string{"sha256/" + hexOf([]byte("absent")), "md5", "sha256/x", "oci-layout", ".pullkit"} {
		_, err := l.FS().Open(name)
		assert.ErrorIs(t, err, fs.ErrNotExist, name)
	}
	flip(t, l, img.all[3])
	_, err = fs.ReadFile(l.FS(), names[3])
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

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
	disk, img := newMemDisk(), newTestImage(t, "registry.example/one:v1", 1, 100)
	var late *Layout
	remover, err := openFS("mem", &hookFS{&memFS{disk}, func(op, name string) error {
		if op != "remove" || !strings.HasPrefix(name, blobsDir) || late != nil {
			return nil
		}
		late = must(openFS("mem", &memFS{disk}, Config{}))
		for _, desc := range img.all {
			assert.True(t, must(late.Has(t.Context(), desc)))
		}
		return nil
	}}, Config{})
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

func TestSweep(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	cfg := Config{Now: func() time.Time { return now }}
	l, err := OpenConfig(dir, cfg)
	require.NoError(t, err)
	defer l.Close()
	data, desc := blobOf(1, 600<<10)
	_, busy := blobOf(2, 600<<10)
	for _, d := range []ocispec.Descriptor{desc, busy} {
		in, err := l.Ingest(t.Context(), d)
		require.NoError(t, err)
		_, err = in.WriteAt(data[:300<<10], 0)
		require.NoError(t, err)
		if d.Digest == desc.Digest {
			require.NoError(t, in.Close())
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, tempPrefix+"dead"), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, stateDir, "sha256-dead.lock"), nil, 0o644))
	names := func() (names []string) {
		for _, e := range must(l.fs.ReadDir(stateDir)) {
			names = append(names, e.Name())
		}
		return names
	}
	openTest(t, dir)
	assert.Len(t, names(), 7, "all of it is young")
	now = now.Add(25 * time.Hour)
	for _, n := range []int{3, 3} {
		other, err := OpenConfig(dir, cfg)
		require.NoError(t, err)
		require.NoError(t, other.Close())
		assert.Len(t, names(), n, "what is in use stays")
	}
	assert.Contains(t, names(), filepath.Base(partName(busy.Digest)))
}
