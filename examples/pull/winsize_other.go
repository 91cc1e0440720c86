//go:build !linux && !darwin

package main

import "os"

// isTerminal reports whether file may be a terminal, which is a device. newTerminal also
// checks TERM.
func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// windowColumns returns 0, because package syscall cannot ask for the width here.
func windowColumns(*os.File) int { return 0 }
