package disk

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
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

func renameAt(fromDir *os.File, from string, toDir *os.File, to string) error {
	err := syscall.Renameat(int(fromDir.Fd()), from, int(toDir.Fd()), to)
	runtime.KeepAlive(fromDir)
	runtime.KeepAlive(toDir)
	if err != nil {
		return &os.LinkError{Op: "renameat", Old: from, New: to, Err: err}
	}
	return nil
}
