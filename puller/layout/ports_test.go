package layout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
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
	l.fs = disktest.Before(l.fs, func(op, _ string) error {
		if asked++; op == "lock" && asked > 3 {
			l.fs.(*disktest.Hook).Before = func(string, string) error { return nil }
			require.NoError(t, os.Rename(path, filepath.Join(t.TempDir(), "aside")))
			require.NoError(t, os.Symlink(t.TempDir(), path))
		}
		return nil
	})

	_, err = l.lock(t.Context(), "k")
	assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
}

// errBusy is what Windows answers for a file that another program has open.
var errBusy = fmt.Errorf("sharing violation: %w", disk.ErrBusy)

// What another program has open is renamed as soon as that program closes it, and
// what stays open is an error after a bounded time.
func TestBusyFilesAreRenamedAgain(t *testing.T) {
	for _, free := range []time.Duration{0, 300 * time.Millisecond, busyFor / 2, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			mem := disktest.New()
			l := must(openMem(mem.Process()))
			img := faultImage(t)
			start := time.Now()
			l.fs = disktest.Before(l.fs, func(op, name string) error {
				if op == "rename" && time.Since(start) < free {
					return &os.LinkError{Op: "renameat", Old: "x", New: name, Err: errBusy}
				}
				return nil
			})

			err := l.replace(layoutName, []byte(ocilayout.Layout))
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
		l := must(openMem(disktest.New().Process()))
		start, free := time.Now(), time.Second
		l.fs = disktest.Before(l.fs, func(op, _ string) error {
			if op == "lock" && time.Since(start) < free {
				return errBusy
			}
			return nil
		})

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

type forReading struct{ disk.File }

func (forReading) Sync() error { return errForReading }

// What another program wrote is synced, and hashed once, also where a file is not
// synced by the handle that it was read by. In a store that may only be read it is
// used all the same.
func TestForeignBlobIsSyncedByWriting(t *testing.T) {
	for _, writing := range []error{nil, os.ErrPermission, disk.ErrNotRegular, os.ErrNotExist} {
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

// A layout on a read-only medium is read, also what another program put there, whatever
// number the system has for such a medium. What would write is an error of the store
// with that number.
func TestReadOnlyMedium(t *testing.T) {
	img, dir := newTestImage(t, "registry.example/app:v1", 1, 100), t.TempDir()
	l := openTest(t, dir)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	data, foreign := blobOf(2, 1000)
	require.NoError(t, os.WriteFile(pathOf(l, foreign), data, 0o644))
	require.NoError(t, l.Close())
	real := must(disk.Open(dir))
	for _, number := range []error{syscall.EROFS, errors.New("The media is write protected.")} {
		l, err := openFS(dir, readOnlyFS{real, fmt.Errorf("%w: %w", number, disk.ErrReadOnly)}, Config{})
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
		assert.Equal(t, content.ErrStore, content.KindOf(err), "%v", err)
		err = l.Tag(t.Context(), reference.MustParse("registry.example/app:v2"), img.index)
		assert.ErrorIs(t, err, number)
		_, err = l.Remove(t.Context(), img.ref)
		assert.ErrorIs(t, err, number)
		_, err = l.Prune(t.Context(), PruneConfig{MinAge: -1})
		assert.ErrorIs(t, err, number)
		requirePulled(t, l, img, "still")
	}
	require.NoError(t, real.Close())
}
