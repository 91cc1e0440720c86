package layout

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The state directory becomes a link, or another directory, while a blob comes. The
// next Ingest answers at once, and no lock file is made where the link leads.
func TestIngestWhileTheStateDirectoryIsReplaced(t *testing.T) {
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
				assert.Equal(t, content.ErrStore, content.KindOf(err), "%s, link %t: %v", name, link, err)
			}
			cancel()
			assert.Empty(t, must(os.ReadDir(elsewhere)), "%s: the link was followed", name)
		}
	}
}

// A lock file is made in the directory that is open, wherever its name leads by now.
func TestLockFileIsOfTheOpenDirectory(t *testing.T) {
	for _, removed := range []bool{false, true} {
		base := t.TempDir()
		path, aside, elsewhere := filepath.Join(base, "state"), filepath.Join(base, "aside"), filepath.Join(base, "elsewhere")
		require.NoError(t, os.Mkdir(path, 0o755))
		require.NoError(t, os.Mkdir(elsewhere, 0o755))
		root := must(os.OpenRoot(path))
		defer root.Close()
		if removed {
			require.NoError(t, os.Remove(path))
		} else {
			require.NoError(t, os.Rename(path, aside))
		}
		require.NoError(t, os.Symlink(elsewhere, path))
		unlock, err := tryLockFile(root, "k")
		assert.Empty(t, must(os.ReadDir(elsewhere)))
		if removed {
			assert.Error(t, err)
			assert.NotErrorIs(t, err, errLocked, "it would be waited for")
			continue
		}
		require.NoError(t, err)
		assert.FileExists(t, filepath.Join(aside, "k"+lockSuffix))
		require.NoError(t, unlock())
		assert.NoFileExists(t, filepath.Join(aside, "k"+lockSuffix))
	}
}

// The holder of a lock removes its own file alone, and a link for one is refused.
func TestLockFileThatAnotherProgramReplaces(t *testing.T) {
	dir := t.TempDir()
	root := must(os.OpenRoot(dir))
	defer root.Close()
	path := filepath.Join(dir, "k"+lockSuffix)
	unlock, err := tryLockFile(root, "k")
	require.NoError(t, err)
	_, err = tryLockFile(root, "k")
	require.ErrorIs(t, err, errLocked)
	require.NoError(t, os.Rename(path, path+".aside"))
	second, err := tryLockFile(root, "k")
	require.NoError(t, err, "a lock on a file that has another name excludes nobody")
	require.NoError(t, unlock())
	assert.FileExists(t, path, "it is the second holder's")
	_, err = tryLockFile(root, "k")
	require.ErrorIs(t, err, errLocked)
	require.NoError(t, second())
	assert.NoFileExists(t, path)
	require.NoError(t, os.Symlink(filepath.Base(path)+".aside", path))
	_, err = tryLockFile(root, "k")
	assert.ErrorIs(t, err, errNotRegular)
}

// A wait for another process's lock ends when a link takes the place of the state
// directory.
func TestWaitForALockSeesTheStateDirectoryReplaced(t *testing.T) {
	l, other := openTest(t, t.TempDir()), (*Layout)(nil)
	other = openTest(t, l.Dir())
	unlock, err := other.lock(t.Context(), "k")
	require.NoError(t, err)
	defer unlock()
	path := filepath.Join(l.Dir(), stateDir)
	asked := 0
	l.fs = &hookFS{l.fs, func(op, _ string) error {
		if asked++; op == "lock" && asked > 3 {
			l.fs.(*hookFS).before = func(string, string) error { return nil }
			require.NoError(t, os.Rename(path, filepath.Join(t.TempDir(), "aside")))
			require.NoError(t, os.Symlink(t.TempDir(), path))
		}
		return nil
	}}
	_, err = l.lock(t.Context(), "k")
	assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
}

// A rename by path puts nothing into a directory that took the place of the open one.
func TestRenameByPath(t *testing.T) {
	for _, link := range []bool{false, true} {
		f := must(openOS(t.TempDir()))
		defer f.Close()
		l := &Layout{fs: f}
		require.NoError(t, l.mkdirs(stateDir, ingestDir, blobsDir, blobsDir+"/sha256"))
		from, to := ingestDir+"/x", blobsDir+"/sha256/x"
		h := must(f.OpenFile(from, newFile))
		require.NoError(t, h.Close())
		fromDir, toDir := must(f.dir(ingestDir)), must(f.dir(blobsDir+"/sha256"))
		path := filepath.Join(f.top.root.Name(), blobsDir)
		require.NoError(t, os.Rename(path, filepath.Join(t.TempDir(), "aside")))
		require.NoError(t, os.MkdirAll(path+"2/sha256", 0o755))
		if link {
			require.NoError(t, os.Symlink(filepath.Base(path)+"2", path))
		} else {
			require.NoError(t, os.Rename(path+"2", path))
		}
		assert.Error(t, f.renameByPath(fromDir, toDir, from, to))
		assert.NoFileExists(t, filepath.Join(path, "sha256", "x"))
		_, err := f.Lstat(from)
		assert.NoError(t, err)
	}
}

// A busyFS answers as Windows does for a file that another program has open.
type busyFS struct{ fsys }

var errBusy = errors.New("sharing violation")

func (f busyFS) Busy(err error) bool { return errors.Is(err, errBusy) }

// What another program has open is renamed as soon as that program closes it, and
// what stays open is an error after a bounded time.
func TestBusyFilesAreRenamedAgain(t *testing.T) {
	for _, free := range []time.Duration{0, 300 * time.Millisecond, busyFor / 2, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			disk := newMemDisk()
			l := must(openMem(&memFS{disk}))
			img := faultImage(t)
			start := time.Now()
			l.fs = &hookFS{busyFS{l.fs}, func(op, name string) error {
				if op == "rename" && time.Since(start) < free {
					return &os.LinkError{Op: "renameat", Old: "x", New: name, Err: errBusy}
				}
				return nil
			}}
			err := l.replace(layoutName, []byte(layoutVersion))
			if free > busyFor {
				assert.ErrorIs(t, err, errBusy)
				assert.Less(t, time.Since(start), busyFor+time.Second)
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
func TestBusyLockFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := must(openMem(&memFS{newMemDisk()}))
		start, free := time.Now(), time.Second
		l.fs = &hookFS{busyFS{l.fs}, func(op, _ string) error {
			if op == "lock" && time.Since(start) < free {
				return errBusy
			}
			return nil
		}}
		unlock, err := l.lock(t.Context(), "k")
		require.NoError(t, err)
		unlock()
		start, free = time.Now(), time.Hour
		_, err = l.lock(t.Context(), "k")
		assert.ErrorIs(t, err, errBusy)
		assert.Less(t, time.Since(start), busyFor+time.Second)
	})
}

// A readerSyncFS syncs what was opened for writing alone, as Windows and AIX do.
type readerSyncFS struct {
	fsys
	writing error // answer to an open for writing; nil for none
}

var errForReading = &os.PathError{Op: "sync", Path: "blob", Err: os.ErrPermission}

func (f readerSyncFS) NeedsWriting(err error) bool { return err == error(errForReading) }

func (f readerSyncFS) OpenFile(name string, flag int) (file, error) {
	if flag&os.O_RDWR != 0 && f.writing != nil {
		return nil, f.writing
	}
	h, err := f.fsys.OpenFile(name, flag)
	if err == nil && flag&os.O_RDWR == 0 {
		return forReading{h}, nil
	}
	return h, err
}

type forReading struct{ file }

func (forReading) Sync() error { return errForReading }

// What another program wrote is synced, and hashed once, also where a file is not
// synced by the handle that it was read by. In a store that may only be read it is
// used all the same.
func TestForeignBlobIsSyncedByWriting(t *testing.T) {
	for _, writing := range []error{nil, os.ErrPermission, errNotRegular, os.ErrNotExist} {
		l := openTest(t, t.TempDir())
		l.fs = readerSyncFS{l.fs, writing}
		data, desc := blobOf(1, 1000)
		require.NoError(t, l.ready(desc.Digest))
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
	l := openTest(t, t.TempDir())
	l.fs = readerSyncFS{l.fs, errors.New("input/output error")}
	data, desc := blobOf(1, 1000)
	require.NoError(t, l.ready(desc.Digest))
	require.NoError(t, os.WriteFile(pathOf(l, desc), data, 0o644))
	_, err := l.Has(t.Context(), desc)
	assert.Error(t, err, "its bytes may not be on the disk")
}
