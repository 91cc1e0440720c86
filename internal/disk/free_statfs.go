//go:build linux || darwin || freebsd || dragonfly || aix

package disk

import (
	"os"
	"runtime"
	"syscall"
)

// freeBytes returns how many bytes this process can still write to the file system of an
// open directory.
func freeBytes(d *os.File) (int64, error) {
	var st syscall.Statfs_t
	err := syscall.Fstatfs(int(d.Fd()), &st)
	runtime.KeepAlive(d)
	if err != nil {
		return 0, os.NewSyscallError("fstatfs", err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
