package newdir_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/newdir"
)

var (
	errTaken   = errors.New("taken")
	errBadName = errors.New("bad name")
)

func newWork(t *testing.T, dir string) *newdir.Work {
	w, err := newdir.New(newdir.Config{
		Dir: dir, Mode: 0o700, Taken: errTaken, BadName: errBadName,
		IsKey: func(data []byte) bool { return strings.HasPrefix(string(data), "key ") },
	})
	require.NoError(t, err)
	t.Cleanup(w.Close)
	return w
}

func write(t *testing.T, root *os.Root, name, data string) {
	require.NoError(t, newdir.WriteFile(root, name, []byte(data), false, nil))
}

// names returns the names in a directory.
func names(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestADirectoryAppearsWhole(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "dir")
	w := newWork(t, dir)
	require.NoError(t, w.Lock(t.Context()))
	root, err := w.Open([]byte("key 1"), true)
	require.NoError(t, err)
	write(t, root, "a", "1")
	w.StartSync()
	assert.Equal(t, []string{".dir" + newdir.Suffix}, names(t, parent), "before Publish")
	require.NoError(t, w.Publish(t.Context(), root, 1))
	w.Remove()
	assert.Equal(t, []string{"dir"}, names(t, parent))
	assert.Equal(t, []string{"a"}, names(t, dir))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	if filepath.Separator == '/' {
		assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	}
	assert.Equal(t, dir, w.Target())
}

// Open keeps the files of an earlier call only if goOn is true and the key is the same.
func TestFilesOfAnEarlierCallStayForTheSameKey(t *testing.T) {
	for _, c := range []struct {
		key  string
		goOn bool
		want []string
	}{
		{"key 1", true, []string{"a"}},
		{"key 1", false, []string{}},
		{"key 2", true, []string{}},
	} {
		parent := t.TempDir()
		w := newWork(t, filepath.Join(parent, "dir"))
		require.NoError(t, w.Lock(t.Context()))
		root, err := w.Open([]byte("key 1"), true)
		require.NoError(t, err)
		write(t, root, "a", "1")
		root.Close()
		w.Close() // as when the process is killed

		again := newWork(t, filepath.Join(parent, "dir"))
		require.NoError(t, again.Lock(t.Context()))
		root, err = again.Open([]byte(c.key), c.goOn)
		require.NoError(t, err)
		got, err := newdir.ReadNames(root, ".", 10)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, "%+v", c)
		root.Close()
	}
}

// A tree of few names is synced name by name. A symbolic link is not followed.
func TestFewNamesAreSyncedOneByOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	w := newWork(t, dir)
	require.NoError(t, w.Lock(t.Context()))
	root, err := w.Open([]byte("key 1"), true)
	require.NoError(t, err)
	require.NoError(t, root.Mkdir("d", 0o755))
	write(t, root, "d/a", "1")
	require.NoError(t, root.Symlink("nothing", "link"))
	assert.Equal(t, filepath.Join(filepath.Dir(dir), ".dir"+newdir.Suffix, newdir.FilesName), w.Files())
	require.NoError(t, w.Publish(t.Context(), root, 3))
	assert.Equal(t, []string{"d", "link"}, names(t, dir))
}

func TestADirectoryThatAppearedIsNotReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	w := newWork(t, dir)
	require.NoError(t, w.Lock(t.Context()))
	root, err := w.Open([]byte("key 1"), true)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(dir, 0o755))
	assert.ErrorIs(t, w.Publish(t.Context(), root, 0), newdir.ErrAppeared)
	assert.Empty(t, names(t, dir))
}

// While one call has the lock, another call waits until its context ends.
func TestTheLockExcludesOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	w := newWork(t, dir)
	require.NoError(t, w.Lock(t.Context()))
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := errors.New("ended")
	cancel(ended)
	assert.ErrorIs(t, newWork(t, dir).Lock(ctx), ended)
	w.Remove()
	assert.NoError(t, newWork(t, dir).Lock(t.Context()))
}

// Another process starts to work in an empty work directory while this process looks at it. This
// process does not take it for a directory of another program.
func TestAnotherProcessMayStartInTheSameWorkDirectory(t *testing.T) {
	parent := t.TempDir()
	work := filepath.Join(parent, ".dir"+newdir.Suffix)
	require.NoError(t, os.Mkdir(work, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(work, newdir.KeyName), []byte("k"), 0o600))
	looks := 0
	w, err := newdir.New(newdir.Config{
		Dir: filepath.Join(parent, "dir"), Mode: 0o700, Taken: errTaken, BadName: errBadName,
		IsKey: func(data []byte) bool {
			if looks++; looks == 1 {
				require.NoError(t, os.WriteFile(filepath.Join(work, "lock"), nil, 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(work, newdir.KeyName), []byte("key 1"), 0o600))
				require.NoError(t, os.Mkdir(filepath.Join(work, newdir.FilesName), 0o700))
				require.NoError(t, os.WriteFile(filepath.Join(work, newdir.FilesName, "a"), []byte("1"), 0o600))
			}
			return string(data) == "key 1"
		},
	})
	require.NoError(t, err)
	t.Cleanup(w.Close)
	require.NoError(t, w.Lock(t.Context()))
	assert.Equal(t, 2, looks, "the key is read again only with the lock")
}

func TestNamesThatCannotBeMadeAreErrors(t *testing.T) {
	for dir, want := range map[string]error{
		"/": errTaken, "x" + newdir.Suffix: errTaken, "x" + newdir.Suffix + newdir.OldSuffix: errTaken, strings.Repeat("x", 250): errBadName,
	} {
		_, err := newdir.New(newdir.Config{Dir: dir, Taken: errTaken, BadName: errBadName})
		assert.ErrorIs(t, err, want, dir)
	}
	_, err := newdir.New(newdir.Config{})
	assert.ErrorContains(t, err, "empty")

	parent := t.TempDir()
	place := filepath.Join(parent, ".dir"+newdir.Suffix)
	require.NoError(t, os.Mkdir(place, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(place, "mine"), nil, 0o644))
	assert.ErrorIs(t, newWork(t, filepath.Join(parent, "dir")).Lock(t.Context()), errTaken)
	assert.Equal(t, []string{"mine"}, names(t, place))
}
