package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// If the lock file was renamed, or has only the name of a backup (a hard link), a lock on
// it excludes no other process. A new lock file is then made and locked.
func TestALockFileThatWasRenamedIsReplaced(t *testing.T) {
	for _, away := range []func(lock, backup string) error{
		os.Rename,
		func(lock, backup string) error { return errors.Join(os.Link(lock, backup), os.Remove(lock)) },
	} {
		dir := t.TempDir()
		a, b := must(Open(dir)), must(Open(dir))
		defer a.Close()
		defer b.Close()
		require.NoError(t, a.Mkdir(stateDir))
		unlock, err := a.TryLock(lockName, "k")
		require.NoError(t, err)
		require.NoError(t, unlock())
		require.NoError(t, away(filepath.Join(dir, lockName), filepath.Join(dir, "backup")))
		_, err = b.TryLock(lockName, "k")
		require.NoError(t, err)
		_, err = a.TryLock(lockName, "k")
		assert.ErrorIs(t, err, ErrLocked)
	}
}

// An operation on a closed FS fails, even if another open file has the number of the
// closed directory.
func TestOpenInAClosedDirectoryFails(t *testing.T) {
	f := must(Open(t.TempDir()))
	require.NoError(t, os.WriteFile(filepath.Join(f.top.root.Name(), "file"), nil, 0o644))
	h, err := f.OpenFile("file", os.O_RDONLY)
	require.NoError(t, err)
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, h.(file).Fd(), syscall.F_GETFD, 0)
	require.Zero(t, errno)
	assert.NotZero(t, flags&syscall.FD_CLOEXEC, "no child process gets it")
	require.NoError(t, h.Close())
	require.NoError(t, f.Close())
	_, err = f.OpenFile("file", os.O_RDONLY)
	assert.ErrorIs(t, err, fs.ErrClosed)
}

// While a name changes between a file and a link, OpenFile returns the file or
// ErrNotRegular, and never the target of the link.
func TestOpenNeverFollowsALink(t *testing.T) {
	f := must(Open(t.TempDir()))
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
			require.ErrorIs(t, err, ErrNotRegular)
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

// A rename in a directory that is closed at the same time renames the file or fails. It
// does not rename a file in another directory whose descriptor got the same number.
func TestARenameWhileTheDirectoryClosesHitsNoOtherFile(t *testing.T) {
	other := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(other, "a"), nil, 0o644))
	for range 200 {
		dir := t.TempDir()
		f := must(Open(dir))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), nil, 0o644))
		var wg sync.WaitGroup
		wg.Go(func() { f.Close() })
		wg.Go(func() {
			d, err := os.Open(other)
			if err == nil {
				d.Close()
			}
		})
		err := f.Rename("a", "b")
		wg.Wait()
		if err != nil {
			require.ErrorIs(t, err, fs.ErrClosed)
			require.FileExists(t, filepath.Join(dir, "a"))
		}
		require.FileExists(t, filepath.Join(other, "a"))
	}
}
