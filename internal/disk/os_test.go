package disk

import (
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
