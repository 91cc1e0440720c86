//go:build unix

package regular

import "syscall"

// NonBlocking is the flag with which opening a named pipe returns at once.
const NonBlocking = syscall.O_NONBLOCK
