//go:build !windows && !plan9

package disk

import (
	"errors"
	"syscall"
)

// faultOf knows that AIX refuses to sync what was opened for reading alone, and that a
// file system may have files that cannot be synced.
func faultOf(err error) fault {
	switch {
	case errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EINVAL):
		return readOnly
	case errors.Is(err, syscall.ELOOP):
		return link
	case errors.Is(err, syscall.EBADF):
		return needsWriting
	}
	return 0
}
