package pullertest

import "syscall"

// The errors of connections in memory are those that this system has for sockets.
const (
	errAddrInUse   = syscall.Errno(10048) // WSAEADDRINUSE
	errConnRefused = syscall.Errno(10061) // WSAECONNREFUSED
	errConnReset   = syscall.WSAECONNRESET
	errBrokenPipe  = syscall.WSAECONNABORTED
)
