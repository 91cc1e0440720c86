package layout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A lock on a file that is the lock file no more, though it has a name still, as in a
// backup of hard links, excludes nobody and is not taken.
func TestLockFileWithOtherNames(t *testing.T) {
	for _, away := range []func(lock, backup string) error{
		os.Rename,
		func(lock, backup string) error { return errors.Join(os.Link(lock, backup), os.Remove(lock)) },
	} {
		dir := t.TempDir()
		a, b := must(openOS(dir)), must(openOS(dir))
		defer a.Close()
		defer b.Close()
		require.NoError(t, a.Mkdir(stateDir))
		unlock, err := a.TryLock("k")
		require.NoError(t, err)
		require.NoError(t, unlock())
		require.NoError(t, away(filepath.Join(dir, lockName), filepath.Join(dir, "backup")))
		_, err = b.TryLock("k")
		require.NoError(t, err)
		_, err = a.TryLock("k")
		assert.ErrorIs(t, err, errLocked)
	}
}

// A directory that is closed is not taken for the one that has its number now.
func TestOpenInAClosedDirectory(t *testing.T) {
	f := must(openOS(t.TempDir()))
	require.NoError(t, os.WriteFile(filepath.Join(f.top.root.Name(), indexName), nil, 0o644))
	h, err := f.OpenFile(indexName, os.O_RDONLY)
	require.NoError(t, err)
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, h.(osFile).Fd(), syscall.F_GETFD, 0)
	require.Zero(t, errno)
	assert.NotZero(t, flags&syscall.FD_CLOEXEC, "no child process gets it")
	require.NoError(t, h.Close())
	require.NoError(t, f.Close())
	_, err = f.OpenFile(indexName, os.O_RDONLY)
	assert.ErrorIs(t, err, fs.ErrClosed)
}

// A name that is now a file and now a link is one of both to whoever opens it.
func TestOpenWhileAFileBecomesALink(t *testing.T) {
	f := must(openOS(t.TempDir()))
	defer f.Close()
	root := f.top.root
	require.NoError(t, root.WriteFile("outside", []byte("outside"), 0o644))
	require.NoError(t, root.WriteFile("name", nil, 0o644))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				root.Symlink("outside", "link")
				root.Rename("link", "name")
				root.WriteFile("file", nil, 0o644)
				root.Rename("file", "name")
			}
		}
	})
	for range 20_000 {
		h, err := f.OpenFile("name", os.O_RDONLY)
		if err != nil {
			require.ErrorIs(t, err, errNotRegular)
			continue
		}
		fi, err := h.Stat()
		require.NoError(t, err)
		require.Zero(t, fi.Size())
		require.NoError(t, h.Close())
	}
	close(stop)
	wg.Wait()
}

// Directories and lock files that are removed again and again, in a layout that
// stays open, leave no descriptor open.
func TestRemovedDirectoriesAreClosed(t *testing.T) {
	l := openTest(t, t.TempDir())
	count := func() int {
		runtime.GC()
		runtime.GC()
		return len(must(os.ReadDir("/proc/self/fd")))
	}
	before := count()
	for i := range 100 {
		for _, name := range []string{stateDir, blobsDir} {
			require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), name)))
		}
		data, desc := blobOf(i, 100)
		store(t, l, desc, data)
	}
	for range 100 {
		if count() <= before+8 {
			return
		}
		runtime.Gosched() // what closes them runs beside
	}
	t.Errorf("%d descriptors, %d before", count(), before)
}
