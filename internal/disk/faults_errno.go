//go:build !windows && !plan9

package disk

import (
	"errors"
	"syscall"
)

// faultOf returns the faults that an error number may mean. EBADF is what AIX returns for
// the sync of a file that was opened only for reading. EINVAL is what a system returns
// for the sync of a file that it cannot sync.
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
