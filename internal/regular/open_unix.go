//go:build unix

package regular

import "syscall"

// NonBlocking is the flag that makes open return at once for a named pipe.
const NonBlocking = syscall.O_NONBLOCK
