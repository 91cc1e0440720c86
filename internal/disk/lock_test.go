package disk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Names like those of package layout.
const (
	stateDir = ".state"
	lockName = stateDir + "/lock"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The locks of this system, and the lock files of other systems, exclude other FS values
// for the same key.
func TestALockExcludesAllOthers(t *testing.T) {
	for name, try := range map[string]func(f *OS, key string) (func() error, error){
		"this system's": func(f *OS, key string) (func() error, error) { return f.TryLock(lockName, key) },
		"a lock file for each key": func(f *OS, key string) (func() error, error) {
			d, err := f.dir(stateDir)
			if err != nil {
				return nil, err
			}
			return tryLockFile(d.root, key)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := must(Open(dir)), must(Open(dir))
			defer a.Close()
			defer b.Close()
			require.NoError(t, a.Mkdir(stateDir))
			for range 3 {
				unlock, err := try(a, "sha256:x")
				require.NoError(t, err)
				_, err = try(b, "sha256:x")
				require.ErrorIs(t, err, ErrLocked)
				other, err := try(b, "sha256:y")
				require.NoError(t, err)
				require.NoError(t, other())
				require.NoError(t, unlock())
				unlock, err = try(b, "sha256:x")
				require.NoError(t, err)
				require.NoError(t, unlock())
			}
			require.NoError(t, os.RemoveAll(dir+"/"+stateDir)) // as another tool might
			require.NoError(t, os.Mkdir(dir+"/"+stateDir, 0o755))
			require.ErrorIs(t, a.CheckDir(stateDir), ErrReplaced)
			require.ErrorIs(t, b.CheckDir(stateDir), ErrReplaced)
			unlock, err := try(a, "sha256:x")
			require.NoError(t, err)
			_, err = try(b, "sha256:x")
			require.ErrorIs(t, err, ErrLocked)
			require.NoError(t, unlock())
		})
	}
}

// A lock file is made in the open directory, even if the directory's name now leads
// elsewhere.
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
			assert.NotErrorIs(t, err, ErrLocked, "a caller would wait for the lock")
			continue
		}
		require.NoError(t, err)
		assert.FileExists(t, filepath.Join(aside, "k"+LockSuffix))
		require.NoError(t, unlock())
		assert.NoFileExists(t, filepath.Join(aside, "k"+LockSuffix))
	}
}

// The holder of a lock removes only its own lock file. A link in place of the lock file
// is refused.
func TestALockFileOfAnotherHolderIsNotRemoved(t *testing.T) {
	dir := t.TempDir()
	root := must(os.OpenRoot(dir))
	defer root.Close()
	path := filepath.Join(dir, "k"+LockSuffix)
	unlock, err := tryLockFile(root, "k")
	require.NoError(t, err)
	_, err = tryLockFile(root, "k")
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, os.Rename(path, path+".aside"))
	second, err := tryLockFile(root, "k")
	require.NoError(t, err, "a lock on a file of another name excludes no process")
	require.NoError(t, unlock())
	assert.FileExists(t, path, "the file is the second holder's")
	_, err = tryLockFile(root, "k")
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, second())
	assert.NoFileExists(t, path)
	require.NoError(t, os.Symlink(filepath.Base(path)+".aside", path))
	_, err = tryLockFile(root, "k")
	assert.ErrorIs(t, err, ErrNotRegular)
}
