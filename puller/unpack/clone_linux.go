package unpack

import (
	"os"
	"runtime"
	"syscall"
)

// clone gives one file the content of another, without a copy: the two files share their bytes
// on disk. It returns an error if their file systems cannot do this.
func clone(to, from *os.File) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, to.Fd(), ficlone(), from.Fd())
	runtime.KeepAlive(to)
	runtime.KeepAlive(from)
	if errno != 0 {
		return os.NewSyscallError("ficlone", errno)
	}
	return nil
}

// ficlone returns FICLONE of ioctl_ficlone(2), which is _IOW(0x94, 9, int).
func ficlone() uintptr {
	switch runtime.GOARCH {
	case "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "sparc64":
		return 0x80049409
	}
	return 0x40049409
}
