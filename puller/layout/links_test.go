package layout

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Links planted for the directories: nothing is written through them.
func TestPlantedDirectoryLinks(t *testing.T) {
	for _, name := range []string{"blobs", "blobs/sha256", stateDir, ingestDir} {
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
					require.NoError(t, os.WriteFile(filepath.Join(dir, layoutName), []byte(ocilayout.Layout), 0o644))
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
		tempName(indexName), indexName, layoutName, epochName,
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

// A partial, or its list, that is another name of some file, such as a blob: that
// file is not written to.
func TestPlantedHardLinks(t *testing.T) {
	l := openTest(t, t.TempDir())
	other, precious := blobOf(1, 300<<10)
	store(t, l, precious, other)
	data, desc := blobOf(2, 600<<10)
	for _, name := range []string{partName(desc.Digest), listName(desc.Digest)} {
		in, err := l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		_, err = in.WriteAt(data[:10], 500)
		require.NoError(t, err)
		require.NoError(t, in.Close())
		path := filepath.Join(l.Dir(), filepath.FromSlash(name))
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Link(pathOf(l, precious), path))
		in, err = l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		for off, n := range in.Have() {
			t.Errorf("%d bytes at %d are not the partial's", n, off)
		}
		_, err = in.WriteAt(data[:200<<10], 300<<10)
		require.NoError(t, err)
		require.NoError(t, in.Close())
	}
	require.NoError(t, (&testPuller{l: l}).blob(t.Context(), desc, data))
	for d, err := range l.Verify(t.Context()) {
		assert.NoError(t, err, d)
	}
}

// Another program puts a directory of blobs aside while blobs come: one that went
// there is not said to be stored, and comes anew.
func TestBlobDirectoryPutAside(t *testing.T) {
	for _, name := range []string{blobsDir, blobsDir + "/sha256"} {
		l := openTest(t, t.TempDir())
		_, slow := blobOf(1, 1000)
		in, err := l.Ingest(t.Context(), slow)
		require.NoError(t, err)
		defer in.Close()
		data, desc := blobOf(2, 1000)
		begun, err := l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		_, err = begun.WriteAt(data, 0)
		require.NoError(t, err)
		path := filepath.Join(l.Dir(), name)
		require.NoError(t, os.Rename(path, filepath.Join(l.Dir(), "aside")))
		require.NoError(t, os.Mkdir(path, 0o755))
		err = begun.Commit(t.Context())
		assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
		store(t, l, desc, data)
		assert.FileExists(t, filepath.Join(l.Dir(), ocilayout.BlobName(desc.Digest)))
	}
}

// Another program removes the state directory while blobs come: others still do.
func TestIngestAfterTheStateIsRemoved(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1000)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	defer in.Close()
	for _, name := range []string{ingestDir, stateDir} {
		require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), name)))
		data, desc = blobOf(2, 1000+len(data))
		store(t, l, desc, data)
	}
}
