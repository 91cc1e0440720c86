//go:build !windows && !plan9

package pullertest

import "syscall"

// The errors of connections in memory are those that this system has for sockets.
const (
	errAddrInUse   = syscall.EADDRINUSE
	errConnRefused = syscall.ECONNREFUSED
	errConnReset   = syscall.ECONNRESET
	errBrokenPipe  = syscall.EPIPE
)
