package layout

import (
	"math"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

var getDiskFreeSpaceEx = kernel32.NewProc("GetDiskFreeSpaceExW")

// freeBytes is how many bytes this user can still write to the volume of an open
// directory, within its quota.
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
