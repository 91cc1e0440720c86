package disktest_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The disk in memory behaves like a real one.
func TestDiskIsLikeTheRealOne(t *testing.T) {
	for name, f := range map[string]disk.FS{"real": must(disk.Open(t.TempDir())), "in memory": disktest.New().Process()} {
		t.Run(name, func(t *testing.T) {
			defer func() { require.NoError(t, f.Close()) }()
			_, err := f.Lstat("dir")
			assert.ErrorIs(t, err, fs.ErrNotExist)
			assert.ErrorIs(t, f.CheckDir("dir"), fs.ErrNotExist)
			assert.ErrorIs(t, f.Mkdir("dir/below"), fs.ErrNotExist)
			_, err = f.OpenFile("dir/file", disk.NewFile)
			assert.ErrorIs(t, err, fs.ErrNotExist)
			require.NoError(t, f.Mkdir("dir"))
			assert.ErrorIs(t, f.Mkdir("dir"), fs.ErrExist)
			require.NoError(t, f.CheckDir("dir"))
			require.NoError(t, f.SyncDir("dir"))

			h, err := f.OpenFile("dir/file", disk.NewFile)
			require.NoError(t, err)
			_, err = f.OpenFile("dir/file", disk.NewFile)
			assert.ErrorIs(t, err, fs.ErrExist)
			_, err = f.OpenFile("dir", os.O_RDONLY)
			assert.ErrorIs(t, err, disk.ErrNotRegular)
			assert.Error(t, f.CheckDir("dir/file"))
			n, err := h.WriteAt([]byte("content"), 3)
			require.NoError(t, err)
			assert.Equal(t, 7, n)
			data := make([]byte, 20)
			n, err = h.ReadAt(data, 0)
			assert.Equal(t, io.EOF, err)
			assert.Equal(t, "\x00\x00\x00content", string(data[:n]))
			require.NoError(t, h.Sync())
			h.WriteBack()

			accessed, modified := time.Unix(1e9, 0), time.Unix(5e8, 0)
			require.NoError(t, f.Chtimes("dir/file", accessed, modified))
			fi, err := f.Lstat("dir/file")
			require.NoError(t, err)
			assert.True(t, fi.ModTime().Equal(modified))
			if at := f.Accessed(fi); !at.IsZero() {
				assert.True(t, at.Equal(accessed), "%v", at)
			}
			assert.EqualValues(t, 10, fi.Size())
			assert.True(t, fi.Mode().IsRegular())
			open, err := h.Stat()
			require.NoError(t, err)
			assert.True(t, f.SameFile(fi, open))
			require.NoError(t, f.Rename("dir/file", "dir/other"))
			assert.ErrorIs(t, f.Rename("dir/file", "dir/other"), fs.ErrNotExist)
			moved, err := f.Lstat("dir/other")
			require.NoError(t, err)
			assert.True(t, f.SameFile(fi, moved))
			require.NoError(t, h.Close())

			entries, err := f.ReadDir("dir")
			require.NoError(t, err)
			require.Len(t, entries, 1)
			assert.Equal(t, "other", entries[0].Name())
			require.NoError(t, f.Remove("dir/other"))
			assert.ErrorIs(t, f.Remove("dir/other"), fs.ErrNotExist)
			if err := f.SyncFS(); err != nil {
				assert.ErrorIs(t, err, errors.ErrUnsupported)
			}

			unlock, err := f.TryLock("dir/lock", "key")
			require.NoError(t, err)
			other, err := f.TryLock("dir/lock", "other key")
			require.NoError(t, err)
			require.NoError(t, other())
			require.NoError(t, unlock())
			unlock, err = f.TryLock("dir/lock", "key")
			require.NoError(t, err)
			require.NoError(t, unlock())
			free, err := f.Free()
			require.NoError(t, err)
			assert.Positive(t, free)
		})
	}
}

// After a loss of power, what was synced is there. What was not synced is there only if
// the argument of Crash keeps it.
func TestACrashLosesOnlyWhatWasNotSynced(t *testing.T) {
	for _, keep := range []func() bool{disktest.KeepNone, disktest.KeepAll} {
		mem := disktest.New()
		f := mem.Process()
		write := func(name string, sync bool) {
			h := must(f.OpenFile(name, disk.NewFile))
			_, err := h.WriteAt([]byte(name), 0)
			require.NoError(t, err)
			if sync {
				require.NoError(t, h.Sync())
			}
		}
		write("synced", true)
		write("only named", false)
		require.NoError(t, f.SyncDir("."))
		write("not named", true)
		_ = must(f.TryLock("lock", "key"))
		after := mem.Crash(keep)
		assert.False(t, after.Locked(""), "locks end with the machine")
		assert.EqualValues(t, len("synced"), must(after.Process().Lstat("synced")).Size())
		assert.Equal(t, keep(), must(after.Process().Lstat("only named")).Size() > 0)
		_, err := after.Process().Lstat("not named")
		assert.Equal(t, keep(), err == nil)
	}
}

// A Hook refuses an operation before it is performed, but performs half of a refused
// write.
func TestAHookRefusesOperations(t *testing.T) {
	refused := errors.New("refused")
	refuse := ""
	mem := disktest.New()
	f := disktest.Before(mem.Process(), func(op, name string) error {
		if op+" "+name == refuse {
			return refused
		}
		return nil
	})
	h := must(f.OpenFile("file", disk.NewFile))
	refuse = "write file"
	_, err := h.WriteAt([]byte("1234"), 0)
	assert.ErrorIs(t, err, refused)
	assert.EqualValues(t, 2, must(f.Lstat("file")).Size())
	refuse = "rename other"
	assert.ErrorIs(t, f.Rename("file", "other"), refused)
	refuse = "sync file"
	assert.ErrorIs(t, h.Sync(), refused)
	refuse = ""
	require.NoError(t, h.Sync(), "the system takes the bytes for written")
	require.NoError(t, f.SyncDir("."))
	assert.Zero(t, must(mem.Crash(disktest.KeepNone).Process().Lstat("file")).Size(), "and they are lost")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
