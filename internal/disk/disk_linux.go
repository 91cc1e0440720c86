package disk

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// sysNumber returns the number of a system call that package syscall does not have. amd64
// is its number on that architecture, and generic its number on architectures with the
// generic table. The result is 0 on other architectures.
func sysNumber(amd64, generic uintptr) uintptr {
	switch runtime.GOARCH {
	case "amd64":
		return amd64
	case "arm64", "riscv64", "loong64":
		return generic
	}
	return 0
}

func sysSyncFS() uintptr { return sysNumber(306, 267) }

// syncFS syncs the file system of an open directory; see FS.SyncFS.
func syncFS(d *os.File) error {
	nr := sysSyncFS()
	if nr == 0 || !syncFSReportsErrors() {
		return errors.ErrUnsupported
	}
	_, _, errno := syscall.Syscall(nr, d.Fd(), 0, 0)
	runtime.KeepAlive(d)
	if errno != 0 {
		return os.NewSyscallError("syncfs", errno)
	}
	return nil
}

// syncFSReportsErrors reports whether syncfs(2) fails if some bytes could not be written.
// From Linux 5.8 on syncfs does so. Older versions always return success.
func syncFSReportsErrors() bool {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return false
	}
	var release []byte
	for _, c := range u.Release {
		release = append(release, byte(c))
	}
	return releaseAtLeast(string(release), 5, 8)
}

// releaseAtLeast reports whether a kernel's release, such as 6.1.0-13-amd64, is at least
// version major.minor.
func releaseAtLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}

// renameAt renames a file between two open directories.
func renameAt(fromDir *os.File, from string, toDir *os.File, to string) error {
	err := withDescriptor(fromDir, func(a int) error {
		return withDescriptor(toDir, func(b int) error { return syscall.Renameat(a, from, b, to) })
	})
	if err != nil {
		return &os.LinkError{Op: "renameat", Old: from, New: to, Err: err}
	}
	return nil
}

// withDescriptor calls use with the descriptor of an open file. A Close at the same time
// does not free the number of the descriptor before use returns. The number could
// otherwise be that of another file.
func withDescriptor(f *os.File, use func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if conn.Control(func(fd uintptr) { err = use(int(fd)) }) != nil {
		return os.ErrClosed
	}
	return err
}

// fallocKeepSize is FALLOC_FL_KEEP_SIZE of fallocate(2).
const fallocKeepSize = 1

// reserve asks for room in an open file; see File.Reserve.
func reserve(f *os.File, off, n int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), fallocKeepSize, off, n)
		if err != syscall.EINTR {
			runtime.KeepAlive(f)
			return os.NewSyscallError("fallocate", err)
		}
	}
}
