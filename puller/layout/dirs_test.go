package layout

import (
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pullkit/pullkit/internal/disk"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Several processes make the directory at once: one of theirs stays.
func TestIngestDirectoryOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		f := must(disk.Open(dir))
		defer f.Close()
		wg.Go(func() {
			l := &tree{fs: f}
			assert.NoError(t, l.mkdirs(stateDir, ingestDir))
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(filepath.Join(dir, stateDir))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.Equal(t, "ingest", entries[0].Name())
}

// Of a directory that is there nothing changes, and nothing is left over.
func TestIngestDirectoryIsThere(t *testing.T) {
	f := must(disk.Open(t.TempDir()))
	defer f.Close()
	l := &tree{fs: f}
	require.NoError(t, l.mkdirs(stateDir, ingestDir))
	before := must(f.Lstat(ingestDir))
	for range 3 {
		require.ErrorIs(t, f.Mkdir(ingestDir), fs.ErrExist)
	}
	assert.True(t, f.SameFile(before, must(f.Lstat(ingestDir))))
	assert.Len(t, must(f.ReadDir(stateDir)), 1)
}
