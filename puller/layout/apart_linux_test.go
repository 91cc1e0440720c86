package layout

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each file system makes the directory of partials, in its place alone; on an ext4
// that is large enough to have places far from each other, those of several layouts
// are no neighbours, but by chance.
func TestIngestDirectoryApart(t *testing.T) {
	base := t.TempDir()
	var at []uint64
	for name := range strings.SplitSeq("abcdefghijkl", "") {
		dir := filepath.Join(base, name)
		openTest(t, dir)
		entries, err := os.ReadDir(filepath.Join(dir, stateDir))
		require.NoError(t, err)
		require.Len(t, entries, 2)
		assert.Equal(t, []string{"ingest", "lock"}, []string{entries[0].Name(), entries[1].Name()})
		at = append(at, inodeOf(t, filepath.Join(dir, ingestDir)))
	}
	top := must(os.Open(filepath.Join(base, "a", stateDir)))
	defer top.Close()
	var st syscall.Statfs_t
	require.NoError(t, syscall.Fstatfs(int(top.Fd()), &st))
	if !spreads(top) || st.Files < 1<<22 { // some 64 GiB
		return
	}
	near := 0
	for i := range at[1:] {
		if max(at[i], at[i+1])-min(at[i], at[i+1]) < 1000 {
			near++
		}
	}
	assert.Less(t, near, len(at)/2, "inodes %d", at)
}

func inodeOf(t *testing.T, name string) uint64 {
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat(name, &st))
	return st.Ino
}

// Several processes make the directory at once: one of theirs stays.
func TestIngestDirectoryOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		f := must(openOS(dir))
		defer f.Close()
		wg.Go(func() {
			l := &Layout{fs: f}
			assert.NoError(t, l.mkdirs(stateDir, ingestDir))
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(filepath.Join(dir, stateDir))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	assert.Equal(t, "ingest", entries[0].Name())
}

// The directory is made all the same when the temporary one is removed before it is
// in its place, as a sweep of all that is not in use does, and nothing is left over.
func TestIngestDirectorySweptWhileItIsMade(t *testing.T) {
	for range 50 {
		f := must(openOS(t.TempDir()))
		l := &Layout{fs: f, log: slog.New(slog.DiscardHandler)}
		l.cfg.Now = time.Now
		require.NoError(t, l.mkdirs(stateDir))
		made := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-made:
					return
				default:
					l.sweepOlder(-time.Hour)
				}
			}
		})
		assert.NoError(t, l.mkdirs(ingestDir))
		close(made)
		wg.Wait()
		assert.Len(t, must(f.ReadDir(stateDir)), 1)
		require.NoError(t, f.Close())
	}
}

// Of a directory that is there nothing changes, and nothing is left over.
func TestIngestDirectoryIsThere(t *testing.T) {
	f := must(openOS(t.TempDir()))
	defer f.Close()
	l := &Layout{fs: f}
	require.NoError(t, l.mkdirs(stateDir, ingestDir))
	before := must(f.Lstat(ingestDir))
	for range 3 {
		require.ErrorIs(t, f.Mkdir(ingestDir), fs.ErrExist)
	}
	assert.True(t, f.SameFile(before, must(f.Lstat(ingestDir))))
	assert.Len(t, must(f.ReadDir(stateDir)), 1)
}
