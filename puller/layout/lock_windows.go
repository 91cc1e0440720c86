package layout

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

const (
	lockFailImmediately = 1 // LOCKFILE_FAIL_IMMEDIATELY of LockFileEx
	lockExclusive       = 2 // LOCKFILE_EXCLUSIVE_LOCK

	errorLockViolation syscall.Errno = 33
)

var (
	kernel32     = syscall.NewLazyDLL("kernel32.dll")
	lockFileEx   = kernel32.NewProc("LockFileEx")
	unlockFileEx = kernel32.NewProc("UnlockFileEx")
)

// lockHandle locks the first byte of an open file, or gives errLocked at once. The
// lock belongs to the handle and ends with it. The file is opened through os.Root,
// which shares deletion, so its holder can remove it.
func lockHandle(f *os.File) error {
	var at syscall.Overlapped // where the lock begins: at 0
	ok, _, err := lockFileEx.Call(f.Fd(), lockFailImmediately|lockExclusive, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	runtime.KeepAlive(f)
	switch {
	case ok != 0:
		return nil
	case err == errorLockViolation || err == syscall.ERROR_IO_PENDING:
		return errLocked
	}
	return err
}

func unlockHandle(f *os.File) error {
	var at syscall.Overlapped
	ok, _, err := unlockFileEx.Call(f.Fd(), 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	runtime.KeepAlive(f)
	if ok != 0 {
		return nil
	}
	return err
}
