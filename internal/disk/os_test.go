package disk

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// If another directory takes the place of the target while the target is open, a rename by
// path does not put the file into the other directory.
func TestARenameByPathStaysInItsDirectory(t *testing.T) {
	for _, link := range []bool{false, true} {
		f := must(Open(t.TempDir()))
		defer f.Close()
		for _, name := range []string{"from", "to", "to/below"} {
			require.NoError(t, f.Mkdir(name))
		}
		from, to := "from/x", "to/below/x"
		h := must(f.OpenFile(from, NewFile))
		require.NoError(t, h.Close())
		fromDir, toDir := must(f.dir("from")), must(f.dir("to/below"))
		path := filepath.Join(f.top.root.Name(), "to")
		require.NoError(t, os.Rename(path, filepath.Join(t.TempDir(), "aside")))
		require.NoError(t, os.MkdirAll(path+"2/below", 0o755))
		if link {
			require.NoError(t, os.Symlink(filepath.Base(path)+"2", path))
		} else {
			require.NoError(t, os.Rename(path+"2", path))
		}
		assert.Error(t, f.renameByPath(fromDir, toDir, from, to))
		assert.NoFileExists(t, filepath.Join(path, "below", "x"))
		_, err := f.Lstat(from)
		assert.NoError(t, err)
	}
}

// The name of a directory that Open made is durable after the first sync of the directory
// or of the file system, and not before.
func TestTheNameOfANewDirectoryBecomesDurable(t *testing.T) {
	for name, sync := range map[string]func(f *OS) error{
		"directory":   func(f *OS) error { return f.SyncDir(".") },
		"file system": func(f *OS) error { return f.SyncFS() },
	} {
		dir := filepath.Join(t.TempDir(), "a", "b", "c")
		f := must(Open(dir))
		defer f.Close()
		assert.True(t, f.own.made, name)
		require.NoError(t, f.Mkdir("below"))
		require.NoError(t, f.SyncDir("below"))
		assert.False(t, f.own.durable, "%s: another directory was synced", name)
		if err := sync(f); !errors.Is(err, errors.ErrUnsupported) {
			require.NoError(t, err, name)
			assert.True(t, f.own.durable, name)
		}
		again := must(Open(dir))
		defer again.Close()
		assert.False(t, again.own.made, name)
		assert.False(t, again.own.durable, "%s: the process that made the directory may have died before it synced the name", name)
		require.NoError(t, again.SyncDir("."))
		assert.True(t, again.own.durable, name)
	}
}
