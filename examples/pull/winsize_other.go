//go:build !linux && !darwin

package main

import "os"

// isTerminal reports whether file may be one: a device, and TERM is looked at too.
func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// windowColumns is 0: the width is not known here without a further module.
func windowColumns(*os.File) int { return 0 }
