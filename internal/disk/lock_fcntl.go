//go:build aix || (solaris && !illumos)

package disk

import (
	"io"
	"os"
	"runtime"
	"syscall"
)

// lockHandle locks an open file, or returns ErrLocked at once. A lock of fcntl(2) belongs
// to the process; see lockFiles.
func lockHandle(f *os.File) error {
	err := setFileLock(f, syscall.F_WRLCK)
	if err == syscall.EAGAIN || err == syscall.EACCES {
		return ErrLocked
	}
	return err
}

func unlockHandle(f *os.File) error { return setFileLock(f, syscall.F_UNLCK) }

// setFileLock locks or unlocks the whole file: a length of 0 means up to the end.
func setFileLock(f *os.File, kind int16) error {
	lk := syscall.Flock_t{Type: kind, Whence: io.SeekStart}
	for {
		err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &lk)
		runtime.KeepAlive(f)
		if err != syscall.EINTR {
			return err
		}
	}
}
