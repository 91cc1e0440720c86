package disk

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

const (
	lockFailImmediately = 1 // LOCKFILE_FAIL_IMMEDIATELY of LockFileEx
	lockExclusive       = 2 // LOCKFILE_EXCLUSIVE_LOCK
)

var (
	kernel32           = syscall.NewLazyDLL("kernel32.dll")
	lockFileEx         = kernel32.NewProc("LockFileEx")
	unlockFileEx       = kernel32.NewProc("UnlockFileEx")
	getDiskFreeSpaceEx = kernel32.NewProc("GetDiskFreeSpaceExW")
)

// faultOf returns the faults that an error of Windows or of os.Root may mean.
func faultOf(err error) fault {
	var number syscall.Errno
	switch {
	case errors.Is(err, syscall.ELOOP): // os.Root returns it for a link
		return link
	case errors.As(err, &number):
		return windowsFault(uintptr(number))
	}
	return 0
}

// lockHandle locks the first byte of an open file, or returns ErrLocked at once. The lock
// belongs to the handle and ends with it. os.Root opens the file so that other handles
// may remove it, so the holder of the lock can remove the file.
func lockHandle(f *os.File) error {
	var at syscall.Overlapped // the offset of the lock: 0
	ok, _, err := lockFileEx.Call(f.Fd(), lockFailImmediately|lockExclusive, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	runtime.KeepAlive(f)
	var number syscall.Errno
	switch {
	case ok != 0:
		return nil
	case errors.As(err, &number) && windowsLocked(uintptr(number)):
		return ErrLocked
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

// freeBytes returns how many bytes this user can still write to the volume of an open
// directory, within the user's quota.
func freeBytes(d *os.File) (int64, error) {
	name, err := syscall.UTF16PtrFromString(d.Name())
	if err != nil {
		return 0, err
	}
	var free uint64
	ok, _, err := getDiskFreeSpaceEx.Call(uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&free)), 0, 0)
	runtime.KeepAlive(d)
	if ok == 0 {
		return 0, os.NewSyscallError("GetDiskFreeSpaceEx", err)
	}
	return int64(min(free, math.MaxInt64)), nil
}

// Usage returns how many bytes the volume of a directory has for this user, and how many of
// them the user can still write.
func Usage(dir string) (total, free int64, err error) {
	name, err := syscall.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var left, all uint64
	ok, _, err := getDiskFreeSpaceEx.Call(uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&left)), uintptr(unsafe.Pointer(&all)), 0)
	if ok == 0 {
		return 0, 0, os.NewSyscallError("GetDiskFreeSpaceEx", err)
	}
	return int64(min(all, math.MaxInt64)), int64(min(left, math.MaxInt64)), nil
}

// links returns how many names an open file has.
func links(f *os.File, _ fs.FileInfo) (uint64, error) {
	var info syscall.ByHandleFileInformation
	err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info)
	runtime.KeepAlive(f)
	return uint64(info.NumberOfLinks), err
}

func accessed(fi fs.FileInfo) time.Time {
	if st, ok := fi.Sys().(*syscall.Win32FileAttributeData); ok {
		return time.Unix(0, st.LastAccessTime.Nanoseconds())
	}
	return time.Time{}
}
