package layout

import (
	"errors"
	"syscall"
)

const errorSharingViolation syscall.Errno = 32

// busy knows the two answers of Windows for a file that another program has open
// without sharing it: the second is for a file that is about to be removed too.
func busy(err error) bool {
	return errors.Is(err, errorSharingViolation) || errors.Is(err, syscall.ERROR_ACCESS_DENIED)
}
