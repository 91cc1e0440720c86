//go:build !windows && !plan9

package layout

import (
	"errors"
	"syscall"
)

// readOnlyNumbers are the system's numbers for a file system, or a kind of file, that
// is not written to.
var readOnlyNumbers = []error{syscall.EROFS, syscall.EINVAL}

// needsWriting reports whether a sync failed because the file was opened for reading
// alone, which AIX answers.
func needsWriting(err error) bool { return errors.Is(err, syscall.EBADF) }
