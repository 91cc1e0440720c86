//go:build unix && !aix && (!solaris || illumos)

package disk

import (
	"os"
	"runtime"
	"syscall"
)

// lockHandle locks an open file, or returns ErrLocked at once. A lock of flock(2) belongs
// to the open file and ends with it.
func lockHandle(f *os.File) error {
	err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		return ErrLocked
	}
	return err
}

// unlockHandle unlocks an open file. A close without an unlock may not release the lock
// at once, because a child process that is about to run another program keeps the file
// open for a moment.
func unlockHandle(f *os.File) error { return flock(f, syscall.LOCK_UN) }

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		runtime.KeepAlive(f)
		if err != syscall.EINTR {
			return err
		}
	}
}
