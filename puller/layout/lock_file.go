package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// tryLockFile takes the lock of a key as a file of its own, for systems without
// locks that belong to an open file. The file is removed when the lock is given
// back, and swept by age if its process died.
func tryLockFile(dir *os.Root, key string) (func() error, error) {
	name := strings.ReplaceAll(key, ":", "-") + lockSuffix
	if fi, err := dir.Lstat(name); err == nil && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("lock %q: %w", name, errNotRegular)
	}
	lock := flock.New(filepath.Join(dir.Name(), name), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	if !ok {
		lock.Close()
		return nil, errLocked
	}
	// Whoever held it before may have removed the file since it was opened.
	held, err := lock.Stat()
	at, aterr := dir.Lstat(name)
	if err != nil || aterr != nil || !os.SameFile(held, at) {
		lock.Close()
		return nil, errLocked
	}
	return func() error {
		dir.Remove(name) // where the system refuses, as it is open, the sweep finds it
		return lock.Close()
	}, nil
}
