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
	return st.F_bavail * int64(st.F_bsize), nil
}

// Usage returns how many bytes the file system of a directory has, and how many of them an
// ordinary user can still write.
func Usage(dir string) (total, free int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.F_blocks) * int64(st.F_bsize), st.F_bavail * int64(st.F_bsize), nil
}
