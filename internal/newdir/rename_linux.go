package newdir

import (
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// renameNew gives a directory another name. The error wraps fs.ErrExist if a file or directory
// has that name, even if it is an empty directory.
func renameNew(from, to string) error {
	err := renameat2(from, to)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) {
		return renameAbsent(from, to)
	}
	return err
}

const (
	atFDCWD         = -0x64
	renameNoReplace = 1
)

// renameat2 calls renameat2(2), which package syscall does not have.
func renameat2(from, to string) error {
	var nr uintptr
	switch runtime.GOARCH {
	case "amd64":
		nr = 316
	case "arm64", "riscv64", "loong64":
		nr = 276
	default:
		return errors.ErrUnsupported
	}
	a, err := syscall.BytePtrFromString(from)
	if err != nil {
		return err
	}
	b, err := syscall.BytePtrFromString(to)
	if err != nil {
		return err
	}
	at := atFDCWD
	_, _, errno := syscall.Syscall6(nr, uintptr(at), uintptr(unsafe.Pointer(a)), uintptr(at), uintptr(unsafe.Pointer(b)), renameNoReplace, 0)
	if errno != 0 {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: errno}
	}
	return nil
}
