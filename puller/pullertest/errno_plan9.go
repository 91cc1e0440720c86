package pullertest

import "syscall"

// The errors of connections in memory are in the words that Plan 9 has for sockets.
const (
	errAddrInUse   = syscall.ErrorString("address in use")
	errConnRefused = syscall.ErrorString("connection refused")
	errConnReset   = syscall.ErrorString("connection reset")
	errBrokenPipe  = syscall.ErrorString("write to hungup channel")
)
