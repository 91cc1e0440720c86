package index

import (
	"fmt"
	"syscall"
	"unsafe"
)

// readMachine asks for the version that the kernel has, whatever the program's
// manifest claims to know.
func readMachine() machine {
	proc := syscall.NewLazyDLL("ntdll.dll").NewProc("RtlGetNtVersionNumbers")
	if proc.Find() != nil {
		return machine{}
	}
	var major, minor, build uint32
	// It returns nothing and cannot fail.
	_, _, _ = proc.Call(uintptr(unsafe.Pointer(&major)), uintptr(unsafe.Pointer(&minor)), uintptr(unsafe.Pointer(&build)))
	// The upper bits of the build tell free and checked builds apart.
	return machine{osVersion: fmt.Sprintf("%d.%d.%d", major, minor, build&0xffff)}
}
