package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
)

// lockFiles has the lock files that this process holds through any OS value. On some
// systems a lock belongs to the process and not to the open file. On such a system a
// second OS value would get a lock that the first one has, and would end that lock when
// it closes its own handle. So a lock file that is in the list is not opened again. The
// list is kept on all systems that lock through files.
var lockFiles struct {
	sync.Mutex
	held []fs.FileInfo
}

// tryLockFile takes the lock of key as a lock file of its own in the open directory dir.
// It is for systems without locks of byte ranges that belong to an open file.
//
// The lock is on the open file, not on its name. So the lock cannot be on a file of
// another directory, or on the target of a link, that now has this name. Unlock removes
// the lock file. If the process ends without an unlock, the user of the FS removes the
// file when it is old.
func tryLockFile(dir *os.Root, key string) (func() error, error) {
	name := strings.ReplaceAll(key, ":", "-") + LockSuffix
	lockFiles.Lock()
	defer lockFiles.Unlock()
	for range openTries {
		f, info, err := openLockFile(dir, name)
		if errors.Is(err, errLostName) {
			continue // its holder has just removed it
		}
		if err != nil {
			return nil, err
		}
		lockFiles.held = append(lockFiles.held, info)
		return func() error { return unlockFile(dir, name, f, info) }, nil
	}
	return nil, fmt.Errorf("lock file %q was replaced by another file at each of %d tries to open it: %w", name, openTries, ErrNotRegular)
}

// errLostName says that a lock file was removed or replaced while it was opened.
var errLostName = errors.New("the file was removed or replaced while it was opened")

// openLockFile opens and locks the lock file of that name. The caller has locked
// lockFiles.
func openLockFile(dir *os.Root, name string) (*os.File, fs.FileInfo, error) {
	at, err := dir.Lstat(name)
	if err == nil && !at.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("lock %q: %w", name, ErrNotRegular)
	}
	if err == nil && slices.ContainsFunc(lockFiles.held, func(fi fs.FileInfo) bool { return os.SameFile(fi, at) }) {
		return nil, nil, ErrLocked
	}
	f, err := dir.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("lock %q: %w", name, err)
	}
	if err := lockHandle(f); err != nil {
		f.Close()
		if errors.Is(err, ErrLocked) {
			return nil, nil, ErrLocked
		}
		return nil, nil, fmt.Errorf("lock %q: %w", name, err)
	}
	// The former holder may have removed the file between the open and the lock.
	info, err := f.Stat()
	if err == nil {
		if at, err = dir.Lstat(name); err != nil || !os.SameFile(info, at) {
			err = errLostName
		}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// unlockFile removes the lock file, if it still has that name, and then releases the
// lock.
func unlockFile(dir *os.Root, name string, f *os.File, info fs.FileInfo) error {
	lockFiles.Lock()
	defer lockFiles.Unlock()
	lockFiles.held = slices.DeleteFunc(lockFiles.held, func(fi fs.FileInfo) bool { return os.SameFile(fi, info) })
	if at, err := dir.Lstat(name); err == nil && os.SameFile(info, at) {
		dir.Remove(name) // if the system refuses, the user of the FS removes the file when it is old
	}
	err := unlockHandle(f)
	return errors.Join(err, f.Close())
}
