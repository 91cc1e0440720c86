//go:build linux || darwin

package main

import (
	"os"
	"syscall"
	"unsafe"
)

// winsize is struct winsize of ioctl_tty(2).
type winsize struct{ rows, columns, xPixels, yPixels uint16 }

func windowSize(file *os.File) (size winsize, ok bool) {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	return size, errno == 0
}

// isTerminal reports whether file is a terminal. Only a terminal has a window's size.
func isTerminal(file *os.File) bool {
	_, ok := windowSize(file)
	return ok
}

// windowColumns returns the width of the window, or 0 if the terminal does not know it.
func windowColumns(file *os.File) int {
	size, _ := windowSize(file)
	return int(size.columns)
}
