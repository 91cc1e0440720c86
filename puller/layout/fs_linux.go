package layout

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

// sysNumber is the number of a system call that package syscall does not know, as
// amd64 and as the architectures with the generic table have it; 0 on others.
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

func syncFS(d *os.File) error {
	nr := sysSyncFS()
	if nr == 0 || !syncFSTells() {
		return errors.ErrUnsupported
	}
	_, _, errno := syscall.Syscall(nr, d.Fd(), 0, 0)
	runtime.KeepAlive(d)
	if errno != 0 {
		return os.NewSyscallError("syncfs", errno)
	}
	return nil
}

// syncFSTells says that syncfs fails if something could not be written, which it
// does since Linux 5.8. Before, it always succeeded.
func syncFSTells() bool {
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

// releaseAtLeast compares the first two numbers of a kernel's release.
func releaseAtLeast(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n < 2 {
		return false
	}
	return a > major || a == major && b >= minor
}

// openAt is OpenFile of os.Root for a name without a slash, and no link, in fewer
// system calls: that one finds out each time that a regular file cannot be polled.
// name is what errors, and those of the file, call it.
func openAt(dir syscall.RawConn, base, name string, flag int) (*os.File, error) {
	var fd int
	var err error
	closed := dir.Control(func(at uintptr) {
		for err = syscall.EINTR; err == syscall.EINTR; {
			fd, err = syscall.Openat(int(at), base, flag|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o644)
		}
	})
	if closed != nil {
		err = os.ErrClosed
	}
	if err != nil {
		return nil, &os.PathError{Op: "openat", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

func chtimes(f *os.File, now, mtime time.Time) error {
	times := [2]syscall.Timespec{syscall.NsecToTimespec(now.UnixNano()), syscall.NsecToTimespec(mtime.UnixNano())}
	_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, f.Fd(), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0)
	runtime.KeepAlive(f)
	if errno != 0 {
		return &os.PathError{Op: "utimensat", Path: f.Name(), Err: errno}
	}
	return nil
}

func renameAt(fromDir *os.File, from string, toDir *os.File, to string) error {
	err := syscall.Renameat(int(fromDir.Fd()), from, int(toDir.Fd()), to)
	runtime.KeepAlive(fromDir)
	runtime.KeepAlive(toDir)
	if err != nil {
		return &os.LinkError{Op: "renameat", Old: from, New: to, Err: err}
	}
	return nil
}
