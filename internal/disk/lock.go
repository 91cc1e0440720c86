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

// lockFiles are the lock files that this process holds, of every OS. On some systems a
// lock belongs to the process and not to the open file. There a second OS would get a
// lock that the first one has, and would end it by closing its own handle. So a lock
// file that is in the list is not opened again. All systems keep the list.
var lockFiles struct {
	sync.Mutex
	held []fs.FileInfo
}

// tryLockFile takes the lock of a key as a file of its own in dir, for systems
// without byte ranges that belong to an open file. The file is opened in dir, which
// is an open directory, and its handle is what is locked: the lock is never of a file
// that another directory, or a link, has under that name by now. The file is removed
// when the lock is given back. If its process died, the user of the FS removes it by age.
func tryLockFile(dir *os.Root, key string) (func() error, error) {
	name := strings.ReplaceAll(key, ":", "-") + LockSuffix
	lockFiles.Lock()
	defer lockFiles.Unlock()
	for range openTries {
		f, info, err := openLockFile(dir, name)
		if errors.Is(err, errLostName) {
			continue // its holder removed it just then
		}
		if err != nil {
			return nil, err
		}
		lockFiles.held = append(lockFiles.held, info)
		return func() error { return unlockFile(dir, name, f, info) }, nil
	}
	return nil, fmt.Errorf("lock %q changes whenever it is opened: %w", name, ErrNotRegular)
}

// errLostName says that a file was removed or replaced while it was opened.
var errLostName = errors.New("removed or replaced meanwhile")

// openLockFile opens and locks the file. The caller has lockFiles.
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
	// The former holder may have removed the file after it was opened here.
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

// unlockFile removes the lock file, if it still is the one under that name, and then
// gives the lock back.
func unlockFile(dir *os.Root, name string, f *os.File, info fs.FileInfo) error {
	lockFiles.Lock()
	defer lockFiles.Unlock()
	lockFiles.held = slices.DeleteFunc(lockFiles.held, func(fi fs.FileInfo) bool { return os.SameFile(fi, info) })
	if at, err := dir.Lstat(name); err == nil && os.SameFile(info, at) {
		dir.Remove(name) // if the system refuses, the file is removed by age
	}
	err := unlockHandle(f)
	return errors.Join(err, f.Close())
}
