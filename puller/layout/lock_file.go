package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
)

// lockFiles are the lock files that this process holds, in all its layouts. On some
// systems a lock belongs to the process and not to the open file: there a second
// layout would get a lock that the first one has, and a handle that the second one
// closes would end it. So no lock file that is in the list is opened again, and the
// list is the same on all systems.
var lockFiles struct {
	sync.Mutex
	held []fs.FileInfo
}

// tryLockFile takes the lock of a key as a file of its own in dir, for systems
// without byte ranges that belong to an open file. The file is opened in dir, which
// is an open directory, and its handle is what is locked: the lock is never of a file
// that another directory, or a link, has under that name by now. The file is removed
// when the lock is given back, and swept by age if its process died.
func tryLockFile(dir *os.Root, key string) (func() error, error) {
	name := strings.ReplaceAll(key, ":", "-") + lockSuffix
	lockFiles.Lock()
	defer lockFiles.Unlock()
	for range openTries {
		f, info, err := openLockFile(dir, name)
		if errors.Is(err, errReplaced) {
			continue // its holder removed it just then
		}
		if err != nil {
			return nil, err
		}
		lockFiles.held = append(lockFiles.held, info)
		return func() error { return unlockFile(dir, name, f, info) }, nil
	}
	return nil, fmt.Errorf("lock %q changes whenever it is opened: %w", name, errNotRegular)
}

// errReplaced says that a file was removed or replaced while it was opened.
var errReplaced = errors.New("replaced meanwhile")

// openLockFile opens and locks the file. The caller has lockFiles.
func openLockFile(dir *os.Root, name string) (*os.File, fs.FileInfo, error) {
	at, err := dir.Lstat(name)
	if err == nil && !at.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("lock %q: %w", name, errNotRegular)
	}
	if err == nil && slices.ContainsFunc(lockFiles.held, func(fi fs.FileInfo) bool { return os.SameFile(fi, at) }) {
		return nil, nil, errLocked
	}
	f, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("lock %q: %w", name, err)
	}
	if err := lockHandle(f); err != nil {
		f.Close()
		if errors.Is(err, errLocked) {
			return nil, nil, errLocked
		}
		return nil, nil, fmt.Errorf("lock %q: %w", name, err)
	}
	// The former holder may have removed the file after it was opened here.
	info, err := f.Stat()
	if err == nil {
		if at, err = dir.Lstat(name); err != nil || !os.SameFile(info, at) {
			err = errReplaced
		}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// unlockFile removes the lock file, if it still is the one under that name, and then
// gives the lock back.
func unlockFile(dir *os.Root, name string, f *os.File, info fs.FileInfo) error {
	lockFiles.Lock()
	defer lockFiles.Unlock()
	lockFiles.held = slices.DeleteFunc(lockFiles.held, func(fi fs.FileInfo) bool { return os.SameFile(fi, info) })
	if at, err := dir.Lstat(name); err == nil && os.SameFile(info, at) {
		dir.Remove(name) // where the system refuses, the sweep finds it
	}
	err := unlockHandle(f)
	return errors.Join(err, f.Close())
}
