package layout

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// begin ingests all of a blob and does not commit it.
func begin(t *testing.T, l *Layout, desc ocispec.Descriptor, data []byte) *ingest {
	t.Helper()
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data, 0)
	require.NoError(t, err)
	return in.(*ingest)
}

// others begins a blob that takes long, so that directories are not checked before
// those that come meanwhile.
func others(t *testing.T, l *Layout) {
	_, slow := blobOf(99, 1000)
	in, err := l.Ingest(t.Context(), slow)
	require.NoError(t, err)
	t.Cleanup(func() { in.Close() })
}

// putAside puts a directory aside and makes another one in its place.
func putAside(t *testing.T, l *Layout, name string) {
	t.Helper()
	path := filepath.Join(l.Dir(), name)
	require.NoError(t, os.Rename(path, filepath.Join(t.TempDir(), "aside")))
	require.NoError(t, os.Mkdir(path, 0o755))
}

// Of two blobs committed together the first is in the new directory, put there by
// somebody else: that does not say that the other is.
func TestBatchGoesToADirectoryPutAside(t *testing.T) {
	for _, name := range []string{blobsDir, blobsDir + "/sha256"} {
		l := openTest(t, t.TempDir())
		var jobs []*job[*ingest]
		for i := range 2 {
			data, desc := blobOf(i, 1000)
			in := begin(t, l, desc, data)
			defer in.Close()
			jobs = append(jobs, &job[*ingest]{item: in})
		}
		putAside(t, l, name)
		other := openTest(t, l.Dir())
		data, desc := blobOf(0, 1000)
		require.NoError(t, other.ready(desc.Digest))
		require.NoError(t, os.WriteFile(pathOf(other, desc), data, 0o644))
		require.NoError(t, l.commitAll(t.Context(), func() []*job[*ingest] { return jobs }))
		for _, j := range jobs {
			ok, err := other.Has(t.Context(), j.item.desc)
			require.NoError(t, err)
			assert.True(t, ok || j.err != nil, "%s is not stored and nobody says so", j.item.desc.Digest)
		}
	}
}

// The state directory, or that of partials, is put aside, and another process
// begins the same blob, at the moment before a blob gets its name: what the other
// one has is not published.
func TestPartialOfAnotherIsNotPublished(t *testing.T) {
	for _, name := range []string{stateDir, ingestDir} {
		l := openTest(t, t.TempDir())
		data, desc := blobOf(1, 1000)
		in := begin(t, l, desc, data)
		l.fs = disktest.Before(l.fs, func(op, to string) error {
			if op != "lstat" || to != partName(desc.Digest) {
				return nil
			}
			l.fs.(*disktest.Hook).Before = func(string, string) error { return nil }
			putAside(t, l, name)
			require.NoError(t, os.MkdirAll(filepath.Join(l.Dir(), ingestDir), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(l.Dir(), partName(desc.Digest)), make([]byte, 1000), 0o644))
			return l.mkdirs(stateDir, ingestDir)
		})

		err := in.Commit(t.Context())
		assert.ErrorIs(t, err, errOtherFile)
		assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
		assert.NoFileExists(t, pathOf(l, desc))
		l.fs = l.fs.(*disktest.Hook).FS
		store(t, l, desc, data)
		requireSound(t, l.fs, name)
	}
}

// A blob that went with its directory is not said to be stored.
func TestIngestAfterBlobsArePutAside(t *testing.T) {
	for _, name := range []string{blobsDir, blobsDir + "/sha256"} {
		l := openTest(t, t.TempDir())
		data, desc := blobOf(1, 1000)
		store(t, l, desc, data)
		others(t, l)
		putAside(t, l, name)
		store(t, l, desc, data)
		assert.FileExists(t, pathOf(l, desc))
	}
}

// When another program removes a directory of blobs, a Commit under way fails and
// loses nothing of what arrived. The next Ingest makes the directory again.
func TestCommitAfterBlobsAreRemoved(t *testing.T) {
	for _, name := range []string{blobsDir, blobsDir + "/sha256"} {
		l := openTest(t, t.TempDir())
		data, desc := blobOf(1, 1000)
		in := begin(t, l, desc, data)
		others(t, l)
		require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), name)))
		err := in.Commit(t.Context())
		assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
		p := &testPuller{l: l}
		require.NoError(t, p.blob(t.Context(), desc, data))
		assert.Zero(t, p.fetched.Load(), "all of it had arrived")
		assert.FileExists(t, pathOf(l, desc))
		require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), name)))
		data, desc = blobOf(2, 1000)
		store(t, l, desc, data)
		assert.FileExists(t, pathOf(l, desc))
	}
}

// A link planted for a directory of blobs is found by the first Commit, and then by
// every Ingest before a byte is fetched.
func TestPlantedBlobLinkIsFoundOnce(t *testing.T) {
	for _, name := range []string{blobsDir, blobsDir + "/sha256"} {
		for _, away := range []func(string) error{
			os.RemoveAll,
			func(path string) error { return os.Rename(path, filepath.Join(t.TempDir(), "aside")) },
		} {
			l := openTest(t, t.TempDir())
			data, desc := blobOf(1, 1000)
			in := begin(t, l, desc, data)
			others(t, l)
			path := filepath.Join(l.Dir(), name)
			require.NoError(t, away(path))
			require.NoError(t, os.Symlink(t.TempDir(), path))
			err := in.Commit(t.Context())
			assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
			assert.ErrorContains(t, err, strconv.Quote(name)+" is not a directory")
			_, desc = blobOf(2, 1000)
			_, err = l.Ingest(t.Context(), desc)
			assert.ErrorContains(t, err, strconv.Quote(name)+" is not a directory")
		}
	}
}

// A partial that another program cut short is not published.
func TestPartialCutShort(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1000)
	in := begin(t, l, desc, data)
	require.NoError(t, os.Truncate(filepath.Join(l.Dir(), partName(desc.Digest)), 999))
	assert.ErrorIs(t, in.Commit(t.Context()), errOtherFile)
	assert.NoFileExists(t, pathOf(l, desc))
}

// Links planted for directories while blobs come: nothing is written through them,
// and no blob is said to be stored that is not.
func TestPlantedDirectoryLinksMeanwhile(t *testing.T) {
	for _, name := range []string{blobsDir, blobsDir + "/sha256", stateDir, ingestDir} {
		l := openTest(t, t.TempDir())
		data, desc := blobOf(1, 1000)
		in := begin(t, l, desc, data)
		others(t, l)
		elsewhere, path := t.TempDir(), filepath.Join(l.Dir(), name)
		require.NoError(t, os.MkdirAll(filepath.Join(elsewhere, "sha256"), 0o755))
		require.NoError(t, os.MkdirAll(filepath.Join(elsewhere, "ingest"), 0o755))
		require.NoError(t, os.RemoveAll(path))
		require.NoError(t, os.Symlink(elsewhere, path))
		err := in.Commit(t.Context())
		assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
		data, desc = blobOf(2, 1000)
		if next, err := l.Ingest(t.Context(), desc); err == nil {
			_, err = next.WriteAt(data, 0)
			require.NoError(t, err)
			err = next.Commit(t.Context())
			assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
		}
		require.NoError(t, filepath.WalkDir(elsewhere, func(path string, e fs.DirEntry, err error) error {
			assert.True(t, err == nil && e.IsDir(), "%s %v", path, err)
			return nil
		}))
	}
}

// Whoever may not look into the state directory reads the layout all the same.
func TestOpenWithoutTheStateDirectory(t *testing.T) {
	mem := disktest.New()
	l := must(openMem(mem.Process()))
	img := faultImage(t)
	require.NoError(t, (&testPuller{chunk: memChunk, l: l}).pull(t.Context(), img))
	l, err := openMem(disktest.Before(mem.Process(), func(op, name string) error {
		if filepath.Dir(name) == stateDir || filepath.Dir(name) == ingestDir || op == "readdir" && name == stateDir {
			return syscall.EACCES
		}
		return nil
	}))
	require.NoError(t, err)
	requirePulled(t, l, img, "without the state directory")
}

// Blobs come while another program puts directories aside and removes them: nothing
// wrong is in sight, all errors are of the store, and what was begun and committed
// after the last of that is there.
func TestDirectoriesChangeWhileBlobsCome(t *testing.T) {
	l, aside := openTest(t, t.TempDir()), t.TempDir()
	var mu sync.Mutex
	changes := 0
	change := func(r *rand.Rand) {
		mu.Lock()
		defer mu.Unlock()
		changes++
		name := []string{stateDir, ingestDir, lockName, blobsDir, blobsDir + "/sha256"}[r.IntN(5)]
		path := filepath.Join(l.Dir(), name)
		if r.IntN(2) == 0 {
			os.RemoveAll(path)
			return
		}
		if os.Rename(path, filepath.Join(aside, fmt.Sprint(changes))) == nil && r.IntN(2) == 0 && name != lockName {
			os.Mkdir(path, 0o755)
		}
	}
	last := make(map[digest.Digest]int) // how many changes there were when it began
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for i := range 60 {
				if i < 45 && r.IntN(3) == 0 {
					change(r)
				}
				mu.Lock()
				before := changes
				mu.Unlock()
				data, desc := blobOf(100*g+i, 50+i)
				err := (&testPuller{l: l}).try(t.Context(), desc, data)
				if err == nil {
					mu.Lock()
					last[desc.Digest] = before
					mu.Unlock()
				} else {
					assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
				}
			}
		})
	}
	wg.Wait()
	requireSound(t, must(disk.Open(l.Dir())), "after all")
	sure := 0
	for d, before := range last {
		if before == changes {
			sure++
			assert.FileExists(t, filepath.Join(l.Dir(), ocilayout.BlobName(d)))
		}
	}
	assert.GreaterOrEqual(t, sure, 10, "one goroutine comes to its last 15 blobs after the last change")
}

// A file that stands for the directory of partials is named, and in nobody's way who reads.
func TestFileForTheIngestDirectory(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := faultImage(t)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), ingestDir)))
	require.NoError(t, os.WriteFile(filepath.Join(l.Dir(), ingestDir), nil, 0o644))
	l = openTest(t, l.Dir())
	requirePulled(t, l, img, "a file in the way")
	_, desc := blobOf(1, 1000)
	_, err := l.Ingest(t.Context(), desc)
	assert.ErrorContains(t, err, strconv.Quote(ingestDir)+" is not a directory")
	_, err = l.Remove(t.Context(), img.ref)
	assert.ErrorContains(t, err, strconv.Quote(ingestDir)+" is not a directory")
	err = l.Tag(t.Context(), img.ref, img.manifest)
	assert.ErrorContains(t, err, strconv.Quote(ingestDir)+" is not a directory")
}
