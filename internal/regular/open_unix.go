//go:build unix

package regular

import "syscall"

// NonBlocking is a flag that makes the open of a named pipe return at once.
const NonBlocking = syscall.O_NONBLOCK
