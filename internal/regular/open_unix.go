//go:build unix

package regular

import "syscall"

// nonBlocking makes the open of a named pipe return at once.
const nonBlocking = syscall.O_NONBLOCK
