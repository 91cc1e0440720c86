package index

import (
	"fmt"
	"syscall"
	"unsafe"
)

// readMachine returns the version of the kernel. Other calls of Windows return the version
// that the program's manifest claims to support.
func readMachine() machine {
	proc := syscall.NewLazyDLL("ntdll.dll").NewProc("RtlGetNtVersionNumbers")
	if proc.Find() != nil {
		return machine{}
	}
	var major, minor, build uint32
	// The procedure returns nothing and cannot fail.
	_, _, _ = proc.Call(uintptr(unsafe.Pointer(&major)), uintptr(unsafe.Pointer(&minor)), uintptr(unsafe.Pointer(&build)))
	// The upper bits of the build distinguish free and checked builds.
	return machine{osVersion: fmt.Sprintf("%d.%d.%d", major, minor, build&0xffff)}
}
