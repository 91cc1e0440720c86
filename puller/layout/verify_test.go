package layout_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func pathOf(l *layout.Layout, desc ocispec.Descriptor) string {
	return filepath.Join(l.Dir(), filepath.FromSlash(ocilayout.BlobName(desc.Digest)))
}

// flip changes a bit of a blob as an editor would: the modification time changes.
func flip(t testing.TB, l *layout.Layout, desc ocispec.Descriptor) {
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

// rot changes a bit of a blob as a fault of the disk would: no time changes.
func rot(t testing.TB, l *layout.Layout, desc ocispec.Descriptor) {
	flip(t, l, desc)
	require.NoError(t, os.Chtimes(pathOf(l, desc), time.Now(), stamp))
}

func TestDamageIsFetchedAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t testing.TB, l *layout.Layout, desc ocispec.Descriptor)
	}{
		{"flip", flip},
		{"truncate", func(t testing.TB, l *layout.Layout, desc ocispec.Descriptor) {
			require.NoError(t, os.Truncate(pathOf(l, desc), desc.Size/2))
		}},
		{"truncate, time kept", func(t testing.TB, l *layout.Layout, desc ocispec.Descriptor) {
			require.NoError(t, os.Truncate(pathOf(l, desc), desc.Size/2))
			require.NoError(t, os.Chtimes(pathOf(l, desc), stamp, stamp))
		}},
		{"link to another blob", func(t testing.TB, l *layout.Layout, desc ocispec.Descriptor) {
			require.NoError(t, os.Rename(pathOf(l, desc), pathOf(l, desc)+"x"))
			require.NoError(t, os.Symlink(filepath.Base(pathOf(l, desc))+"x", pathOf(l, desc)))
		}},
		{"gone", func(t testing.TB, l *layout.Layout, desc ocispec.Descriptor) {
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

// A blob that another program wrote or touched is hashed before it is used.
func TestForeignBlobIsHashed(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1000)
	require.NoError(t, os.Mkdir(filepath.Join(l.Dir(), blobsDir, "sha256"), 0o755))
	require.NoError(t, os.WriteFile(pathOf(l, desc), data, 0o644))
	ok, err := l.Has(t.Context(), desc)
	require.NoError(t, err)
	assert.True(t, ok)
	fi, err := os.Stat(pathOf(l, desc))
	require.NoError(t, err)
	assert.True(t, fi.ModTime().Equal(stamp), "it is not hashed twice")
}

func TestVerifyYieldsDamagedBlobsAndIncompleteImages(t *testing.T) {
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
	found := func() (bad, gone []digest.Digest) {
		for d, err := range l.Verify(t.Context()) {
			switch content.ReasonOf(err) {
			case content.ErrDigestMismatch:
				bad = append(bad, d)
			case content.ErrNotFound:
				gone = append(gone, d)
			default:
				require.NoError(t, err)
			}
		}
		return bad, gone
	}
	before := filesOf(t, l.Dir())
	for range 2 {
		bad, gone := found()
		assert.Equal(t, []digest.Digest{rotten.Digest}, bad)
		assert.Empty(t, gone)
	}
	assert.Equal(t, before, filesOf(t, l.Dir()), "Verify changes nothing")

	freed, err := l.Repair(t.Context())
	require.NoError(t, err)
	assert.Equal(t, content.Removal{Blobs: 1, Bytes: rotten.Size}, freed)
	bad, gone := found()
	assert.Empty(t, bad)
	assert.Equal(t, []digest.Digest{img.index.Digest}, gone, "the image is not whole")
	freed, err = l.Repair(t.Context())
	require.NoError(t, err)
	assert.Zero(t, freed, "there is nothing left to repair")
	p := &testPuller{l: l}
	require.NoError(t, p.pull(t.Context(), img))
	assert.Equal(t, rotten.Size, p.fetched.Load(), "only what was removed is fetched")
	requirePulled(t, l, img, "after the next pull")

	for range l.Verify(t.Context()) {
		break // the caller may stop early
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for d, err := range l.Verify(ctx) {
		assert.Empty(t, d)
		assert.ErrorIs(t, err, context.Canceled)
	}
	_, err = l.Repair(ctx)
	assert.ErrorIs(t, err, context.Canceled)
}

// filesOf returns the size, times and content of every file below dir.
func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = info.ModTime().String() + " " + string(data)
		return err
	}))
	return files
}

func TestFSHasTheStoredBlobs(t *testing.T) {
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

// Verify goes on after a bad sector, and Repair goes on after a wrong blob that it may
// not remove.
func TestVerifyAndRepairGoOnAfterAFault(t *testing.T) {
	mem, img := disktest.New(), newTestImage(t, "registry.example/one:v1", 1, 100, 200, 300)
	l := must(openMem(mem.Process()))
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	broken := func(op string, d *digest.Digest) *layout.Layout {
		return must(layout.OpenDisk("mem", disktest.Before(mem.Process(), func(o, name string) error {
			if o != op || !strings.HasPrefix(name, blobsDir) {
				return nil
			}
			if *d == "" {
				*d = digest.Digest("sha256:" + filepath.Base(name))
			}
			if name == ocilayout.BlobName(*d) {
				return syscall.EIO
			}
			return nil
		}),

			layout.Config{}))
	}
	var first digest.Digest
	bad, seen := broken("read", &first), 0
	for d, err := range bad.Verify(t.Context()) {
		seen++
		if d == first || seen > len(img.all) {
			assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
			continue
		}
		assert.NoError(t, err, d)
	}
	assert.GreaterOrEqual(t, seen, len(img.all), "and the image, if its manifest cannot be read")
	freed, err := bad.Repair(t.Context())
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	assert.Zero(t, freed)

	for _, desc := range img.all[1:3] {
		mem.Flip(ocilayout.BlobName(desc.Digest))
	}
	stays := img.all[2].Digest
	freed, err = broken("remove", &stays).Repair(t.Context())
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	assert.ErrorContains(t, err, string(stays))
	assert.Equal(t, 1, freed.Blobs, "the other one")
	var wrong []digest.Digest
	for d, err := range l.Verify(t.Context()) {
		if content.ReasonOf(err) == content.ErrDigestMismatch {
			wrong = append(wrong, d)
		}
	}
	assert.Equal(t, []digest.Digest{stays}, wrong)
}

// If a directory has the name of a blob, the errors of Verify, Repair and Ingest name it
// and say what to do. Prune keeps it.
func TestADirectoryInPlaceOfABlobIsNamed(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 100)
	store(t, l, desc, data)
	require.NoError(t, os.Remove(pathOf(l, desc)))
	require.NoError(t, os.Mkdir(pathOf(l, desc), 0o755))
	const advice = "is not a regular file: move it away and pull its image again"

	found := 0
	for d, err := range l.Verify(t.Context()) {
		found++
		assert.Equal(t, desc.Digest, d)
		assert.ErrorContains(t, err, advice)
	}
	assert.Equal(t, 1, found)
	_, err := l.Repair(t.Context())
	assert.ErrorContains(t, err, advice)
	_, err = l.Ingest(t.Context(), desc)
	assert.ErrorContains(t, err, advice)
	assert.Equal(t, content.ErrStore, content.ReasonOf(err))
	_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	assert.DirExists(t, pathOf(l, desc))

	require.NoError(t, os.Remove(pathOf(l, desc)))
	store(t, l, desc, data)
}
