package layout_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
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

// begin ingests all bytes of a blob and does not commit it.
func begin(t *testing.T, l *layout.Layout, desc ocispec.Descriptor, data []byte) content.Ingest {
	t.Helper()
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data, 0)
	require.NoError(t, err)
	return in
}

// others starts a blob that takes long. While it runs, the layout does not check the
// directories again before other blobs.
func others(t *testing.T, l *layout.Layout) {
	_, slow := blobOf(99, 1000)
	in, err := l.Ingest(t.Context(), slow)
	require.NoError(t, err)
	t.Cleanup(func() { in.Close() })
}

// putAside renames a directory and makes another one in its place.
func putAside(t *testing.T, l *layout.Layout, name string) {
	t.Helper()
	path := filepath.Join(l.Dir(), name)
	require.NoError(t, os.Rename(path, filepath.Join(t.TempDir(), "aside")))
	require.NoError(t, os.Mkdir(path, 0o755))
}

// The directory of blobs is renamed while two blobs wait to be committed together.
// Another program puts one of the two into the new directory. The other blob does not
// count as stored.
func TestNoBlobIsStoredInARenamedDirectory(t *testing.T) {
	for _, name := range []string{blobsDir, blobsDir + "/sha256"} {
		synctest.Test(t, func(t *testing.T) {
			l, d := openSwitch(t, t.TempDir())
			release := holdCommits(t, l, d, 5)
			errs := make([]error, 2)
			var descs []ocispec.Descriptor
			var wg sync.WaitGroup
			for i := range errs {
				data, desc := blobOf(i, 1000)
				descs = append(descs, desc)
				in := begin(t, l, desc, data)
				wg.Go(func() { errs[i] = in.Commit(t.Context()) })
			}
			synctest.Wait()
			putAside(t, l, name)
			other := openTest(t, l.Dir())
			data, desc := blobOf(0, 1000)
			require.NoError(t, os.MkdirAll(filepath.Dir(pathOf(other, desc)), 0o755))
			require.NoError(t, os.WriteFile(pathOf(other, desc), data, 0o644))
			assert.Error(t, release(), "its directory was put aside")
			wg.Wait()
			for i, desc := range descs {
				ok, err := other.Has(t.Context(), desc)
				require.NoError(t, err)
				assert.True(t, ok || errs[i] != nil, "blob %d is not stored, and Commit reports success", i)
			}
		})
	}
}

// The state directory, or that of partials, is renamed just before a blob gets its name,
// and another process starts the same blob. The other process's partial does not become
// the blob.
func TestThePartialOfAnotherProcessIsNotPublished(t *testing.T) {
	for _, name := range []string{stateDir, ingestDir} {
		l, d := openSwitch(t, t.TempDir())
		data, desc := blobOf(1, 1000)
		in := begin(t, l, desc, data)
		d.set(func(op, to string) error {
			if op != "lstat" || to != partName(desc.Digest) {
				return nil
			}
			d.set(nil)
			putAside(t, l, name)
			require.NoError(t, os.MkdirAll(filepath.Join(l.Dir(), ingestDir), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(l.Dir(), partName(desc.Digest)), make([]byte, 1000), 0o644))
			_, next := blobOf(2, 100) // from its Ingest on, the layout uses the new directory
			in, err := l.Ingest(t.Context(), next)
			require.NoError(t, err)
			return in.Close()
		})
		err := in.Commit(t.Context())
		assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
		assert.ErrorContains(t, err, "another file has this name now")
		assert.NoFileExists(t, pathOf(l, desc))
		store(t, l, desc, data)
		requireSound(t, must(disk.Open(l.Dir())), name)
	}
}

// A blob in a renamed directory does not count as stored.
func TestABlobInARenamedDirectoryIsMissing(t *testing.T) {
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

// If another program removes a directory of blobs, a running Commit fails and keeps the
// bytes that arrived. The next Ingest makes the directory again.
func TestCommitFailsIfTheDirectoryOfBlobsIsRemoved(t *testing.T) {
	for _, name := range []string{blobsDir, blobsDir + "/sha256"} {
		l := openTest(t, t.TempDir())
		data, desc := blobOf(1, 1000)
		in := begin(t, l, desc, data)
		others(t, l)
		require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), name)))
		err := in.Commit(t.Context())
		assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
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

// The first Commit refuses a link planted in place of a directory of blobs. Later, every
// Ingest refuses it before a byte is fetched.
func TestAPlantedLinkForBlobsIsRefused(t *testing.T) {
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
			assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
			assert.ErrorContains(t, err, strconv.Quote(name)+" is not a directory")
			_, desc = blobOf(2, 1000)
			_, err = l.Ingest(t.Context(), desc)
			assert.ErrorContains(t, err, strconv.Quote(name)+" is not a directory")
		}
	}
}

// A partial that another program cut short does not become the blob.
func TestAPartialCutShortIsNotPublished(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1000)
	in := begin(t, l, desc, data)
	require.NoError(t, os.Truncate(filepath.Join(l.Dir(), partName(desc.Digest)), 999))
	err := in.Commit(t.Context())
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	assert.NoFileExists(t, pathOf(l, desc))
}

// Links are planted in place of directories while blobs arrive. The layout writes nothing
// through them, and no missing blob counts as stored.
func TestDirectoryLinksPlantedDuringAnIngestAreNotFollowed(t *testing.T) {
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
		assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
		data, desc = blobOf(2, 1000)
		if next, err := l.Ingest(t.Context(), desc); err == nil {
			_, err = next.WriteAt(data, 0)
			require.NoError(t, err)
			err = next.Commit(t.Context())
			assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
		}
		require.NoError(t, filepath.WalkDir(elsewhere, func(path string, e fs.DirEntry, err error) error {
			assert.True(t, err == nil && e.IsDir(), "%s %v", path, err)
			return nil
		}))
	}
}

// A process without permission for the state directory can read the layout.
func TestALayoutIsReadWithoutItsStateDirectory(t *testing.T) {
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

// Blobs arrive while another program renames and removes directories. No wrong blob is
// visible, and all errors are of the store. Blobs that are started and committed after
// the last change are stored.
func TestNoWrongBlobIsVisibleWhileDirectoriesChange(t *testing.T) {
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
	last := make(map[digest.Digest]int) // number of changes when the blob was started
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
					assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
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

// The error names a file in place of the directory of partials. The file does not disturb
// readers.
func TestAFileInPlaceOfTheIngestDirectoryIsNamed(t *testing.T) {
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

// The layout writes nothing through links that are planted in place of its directories.
func TestPlantedDirectoryLinksAreNotFollowed(t *testing.T) {
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
				var l *layout.Layout
				if !inside { // a directory with something strange is refused at once
					plant()
					var err error
					if l, err = layout.Open(dir, layout.Config{}); err == nil {
						_, err = l.Ingest(t.Context(), desc)
						l.Close()
					}
					assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
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
				assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
				untouched()
			})
		}
	}
}

// Links planted in place of files are replaced or refused.
func TestPlantedFileLinksAreNotFollowed(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(outside, []byte("precious"), 0o644))
	data, desc := blobOf(1, 300<<10)
	hash := desc.Digest.Encoded()
	ref := reference.MustParse("busybox:1.36")
	for _, name := range []string{
		blobsDir + "/sha256/" + hash, partName(desc.Digest), listName(desc.Digest), lockName,
		ingestDir + "/" + indexName + ".new", indexName, layoutName, epochName,
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			dir := t.TempDir()
			in, err := openTest(t, dir).Ingest(t.Context(), desc) // makes the directories
			require.NoError(t, err)
			require.NoError(t, in.Close())
			path := filepath.Join(dir, filepath.FromSlash(name))
			os.Remove(path)
			require.NoError(t, os.Symlink(outside, path))
			l, err := layout.Open(dir, layout.Config{})
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
				assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
			}
			got, err := os.ReadFile(outside)
			require.NoError(t, err)
			assert.Equal(t, "precious", string(got))
		})
	}
}

// A partial or a side list may be a hard link to another file, such as a blob. The layout
// does not write to that file.
func TestPlantedHardLinksAreNotWrittenTo(t *testing.T) {
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

// Another program renames a directory of blobs while blobs arrive. A blob in the renamed
// directory does not count as stored, and is fetched again.
func TestBlobsInARenamedDirectoryAreFetchedAgain(t *testing.T) {
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
		assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
		store(t, l, desc, data)
		assert.FileExists(t, filepath.Join(l.Dir(), ocilayout.BlobName(desc.Digest)))
	}
}

// Another program removes the state directory while blobs arrive. Other blobs are still
// stored.
func TestBlobsAreStoredAfterTheStateIsRemoved(t *testing.T) {
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

// The state directory becomes a link, or another directory, while a blob arrives. The
// next Ingest returns at once, and no lock file is made in the target of the link.
func TestIngestReturnsIfTheStateDirectoryIsReplaced(t *testing.T) {
	for name, away := range map[string]func(path string) error{
		"removed":   os.RemoveAll,
		"put aside": func(path string) error { return os.Rename(path, filepath.Join(t.TempDir(), "aside")) },
	} {
		for _, link := range []bool{true, false} {
			l, elsewhere := openTest(t, t.TempDir()), t.TempDir()
			others(t, l)
			path := filepath.Join(l.Dir(), stateDir)
			require.NoError(t, away(path))
			if link {
				require.NoError(t, os.Symlink(elsewhere, path))
			} else {
				require.NoError(t, os.Mkdir(path, 0o755))
			}
			data, desc := blobOf(2, 1000)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			in, err := l.Ingest(ctx, desc)
			assert.NotErrorIs(t, err, context.DeadlineExceeded, "%s, link %t", name, link)
			if err == nil {
				_, err = in.WriteAt(data, 0)
				require.NoError(t, err)
				err = in.Commit(ctx)
			}
			if err != nil {
				assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%s, link %t: %v", name, link, err)
			}
			cancel()
			assert.Empty(t, must(os.ReadDir(elsewhere)), "%s: the link was followed", name)
		}
	}
}

// A wait for another process's lock ends when a link replaces the state directory.
func TestAWaitForALockEndsIfALinkReplacesTheStateDirectory(t *testing.T) {
	l, d := openSwitch(t, t.TempDir())
	other := openTest(t, l.Dir())
	_, desc := blobOf(1, 100)
	held, err := other.Ingest(t.Context(), desc)
	require.NoError(t, err)
	defer held.Close()
	path := filepath.Join(l.Dir(), stateDir)
	asked := 0
	d.set(func(op, _ string) error {
		if op == "lock" {
			asked++
		}
		if asked > 3 {
			d.set(nil)
			require.NoError(t, os.Rename(path, filepath.Join(t.TempDir(), "aside")))
			require.NoError(t, os.Symlink(t.TempDir(), path))
		}
		return nil
	})
	_, err = l.Ingest(t.Context(), desc)
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
}

// errBusy is what Windows answers for a file that another program has open.
var errBusy = fmt.Errorf("sharing violation: %w", disk.ErrBusy)

// A file that another program has open is renamed as soon as that program closes it. If
// the file stays open, the rename is an error after a bounded time.
func TestBusyFilesAreRenamedAgain(t *testing.T) {
	for _, free := range []time.Duration{0, 300 * time.Millisecond, disk.BusyFor / 2, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			mem, img := disktest.New(), faultImage(t)
			start := time.Now()
			l, err := openMem(disktest.Before(mem.Process(), func(op, name string) error {
				if op == "rename" && time.Since(start) < free {
					return &os.LinkError{Op: "renameat", Old: "x", New: name, Err: errBusy}
				}
				return nil
			}))
			if free > disk.BusyFor {
				assert.ErrorIs(t, err, errBusy)
				assert.Less(t, time.Since(start), disk.BusyFor+time.Second)
				return
			}
			require.NoError(t, err)
			assert.Less(t, time.Since(start), free+time.Second)
			start = time.Now()
			require.NoError(t, (&testPuller{chunk: memChunk, l: l}).pull(t.Context(), img))
			requirePulled(t, l, img, "busy")
		})
	}
}

// A lock file that another program has open is asked for again, for a bounded time.
func TestABusyLockFileIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSwitchDisk(disktest.New().Process())
		l := must(openMem(d))
		start, free := time.Now(), time.Second
		d.set(func(op, _ string) error {
			if op == "lock" && time.Since(start) < free {
				return errBusy
			}
			return nil
		})
		data, desc := blobOf(1, 100)
		store(t, l, desc, data)
		start, free = time.Now(), time.Hour
		_, desc = blobOf(2, 100)
		_, err := l.Ingest(t.Context(), desc)
		assert.ErrorIs(t, err, errBusy)
		assert.Less(t, time.Since(start), disk.BusyFor+time.Second)
	})
}

// A readerSyncFS syncs only files that were opened for writing, as Windows and AIX do.
type readerSyncFS struct {
	disk.FS
	writing error // answer to an open for writing; nil for none
}

var errForReading = &os.PathError{Op: "sync", Path: "blob", Err: fmt.Errorf("%w: %w", os.ErrPermission, disk.ErrNeedsWriting)}

func (f readerSyncFS) OpenFile(name string, flag int) (disk.File, error) {
	if flag&os.O_RDWR != 0 && f.writing != nil {
		return nil, f.writing
	}
	h, err := f.FS.OpenFile(name, flag)
	if err == nil && flag&os.O_RDWR == 0 {
		return forReading{h}, nil
	}
	return h, err
}

// openReaderSync opens a layout with a directory for blobs, over a readerSyncFS.
func openReaderSync(t *testing.T, writing error) *layout.Layout {
	dir := t.TempDir()
	require.NoError(t, openTest(t, dir).Close())
	require.NoError(t, os.Mkdir(filepath.Join(dir, blobsDir, "sha256"), 0o755))
	l, err := layout.OpenDisk(dir, readerSyncFS{must(disk.Open(dir)), writing}, layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

type forReading struct{ disk.File }

func (forReading) Sync() error { return errForReading }

// A blob that another program wrote is synced and hashed once, even on a system that
// syncs a file only through a handle for writing. In a read-only store the blob is used
// without a sync.
func TestForeignBlobIsSyncedByWriting(t *testing.T) {
	for _, writing := range []error{nil, os.ErrPermission, disk.ErrNotRegular, os.ErrNotExist} {
		l := openReaderSync(t, writing)
		data, desc := blobOf(1, 1000)
		require.NoError(t, os.WriteFile(pathOf(l, desc), data, 0o644))
		for range 2 {
			ok, err := l.Has(t.Context(), desc)
			require.NoError(t, err, "%v", writing)
			assert.True(t, ok)
		}
		fi, err := os.Stat(pathOf(l, desc))
		require.NoError(t, err)
		assert.Equal(t, writing == nil, fi.ModTime().Equal(stamp), "%v", writing)
	}
	l := openReaderSync(t, errors.New("input/output error"))
	data, desc := blobOf(1, 1000)
	require.NoError(t, os.WriteFile(pathOf(l, desc), data, 0o644))
	_, err := l.Has(t.Context(), desc)
	assert.Error(t, err, "its bytes may not be on the disk")
}

// A readOnlyFS is on a medium that cannot be written to.
type readOnlyFS struct {
	disk.FS
	err error // the system's answer to what would write
}

func (f readOnlyFS) OpenFile(name string, flag int) (disk.File, error) {
	if flag&(os.O_RDWR|os.O_CREATE) != 0 {
		return nil, f.err
	}
	h, err := f.FS.OpenFile(name, flag)
	return forReading{h}, err
}

func (f readOnlyFS) Mkdir(string) error                         { return f.err }
func (f readOnlyFS) Rename(string, string) error                { return f.err }
func (f readOnlyFS) Remove(string) error                        { return f.err }
func (f readOnlyFS) Chtimes(string, time.Time, time.Time) error { return f.err }
func (f readOnlyFS) TryLock(string, string) (func() error, error) {
	return nil, f.err
}

// A layout on a read-only medium can be read, including blobs of another program, for
// each error number that a system has for such a medium. An operation that writes is an
// error of the store with that number.
func TestALayoutOnAReadOnlyMediumIsRead(t *testing.T) {
	img, dir := newTestImage(t, "registry.example/app:v1", 1, 100), t.TempDir()
	l := openTest(t, dir)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	data, foreign := blobOf(2, 1000)
	require.NoError(t, os.WriteFile(pathOf(l, foreign), data, 0o644))
	require.NoError(t, l.Close())
	real := must(disk.Open(dir))
	for _, number := range []error{errors.New("read-only file system"), errors.New("The media is write protected.")} {
		l, err := layout.OpenDisk(dir, readOnlyFS{real, fmt.Errorf("%w: %w", number, disk.ErrReadOnly)}, layout.Config{})
		require.NoError(t, err)
		requirePulled(t, l, img, "read-only")
		ok, err := l.Has(t.Context(), foreign)
		require.NoError(t, err)
		assert.True(t, ok)
		for d, err := range l.Verify(t.Context()) {
			assert.NoError(t, err, d)
		}
		_, missing := blobOf(3, 1000)
		_, err = l.Ingest(t.Context(), missing)
		assert.ErrorIs(t, err, number)
		assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
		err = l.Tag(t.Context(), reference.MustParse("registry.example/app:v2"), img.index)
		assert.ErrorIs(t, err, number)
		_, err = l.Remove(t.Context(), img.ref)
		assert.ErrorIs(t, err, number)
		_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
		assert.ErrorIs(t, err, number)
		requirePulled(t, l, img, "still")
	}
	require.NoError(t, real.Close())
}
