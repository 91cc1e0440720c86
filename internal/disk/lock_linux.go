package disk

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// fOFDSetLk is F_OFD_SETLK of fcntl(2), which has the same number on all architectures.
// Such a lock belongs to the open file and not to the process. It ends when the file is
// closed, which the end of the process also does. Two layouts of one process exclude each
// other.
const fOFDSetLk = 37

// A locker locks byte ranges of one file, so that a lock of a key needs no lock file of
// its own. Processes with earlier versions of this package lock the same bytes.
type locker struct {
	mu   sync.Mutex
	f    *os.File
	info fs.FileInfo // of f
}

// tryLock takes the lock of key in the file that is called name in root.
func (l *locker) tryLock(root *os.Root, name, key string) (func() error, error) {
	f, err := l.file(root, name)
	if err != nil {
		return nil, err
	}
	at := byteOf(key)
	if err := setLock(f, syscall.F_WRLCK, at); err != nil {
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	return func() error { return setLock(f, syscall.F_UNLCK, at) }, nil
}

// byteOf returns the offset of the byte that is locked for key. Two keys may have the
// same byte. The users of these keys then wait for each other, which does no other harm.
func byteOf(key string) int64 {
	h := fnv.New64a()
	io.WriteString(h, key)
	return int64(h.Sum64() >> 2)
}

// setLock locks or unlocks the byte at an offset.
func setLock(f *os.File, kind int16, at int64) error {
	lk := syscall.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1}
	for {
		err := syscall.FcntlFlock(f.Fd(), fOFDSetLk, &lk)
		if err != syscall.EINTR {
			return err
		}
	}
}

// file returns the open lock file. It opens the file again if another program removed it,
// because a lock on a removed file would exclude no other process.
func (l *locker) file(root *os.Root, name string) (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, err := root.Lstat(name)
	if l.f != nil && err == nil && os.SameFile(at, l.info) {
		return l.f, nil
	}
	if err == nil && !at.Mode().IsRegular() {
		return nil, fmt.Errorf("lock %q: %w", name, ErrNotRegular)
	}
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	// A file that was open before is left to the garbage collector, because it may still
	// have locks.
	l.f, l.info = f, info
	return f, nil
}

func (l *locker) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
