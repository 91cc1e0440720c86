//go:build !linux && !windows

package index

func readMachine() machine { return machine{} }
