package layout

import (
	"errors"
	"syscall"
)

// readOnlyNumbers are the system's numbers for a volume that is not written to.
var readOnlyNumbers = []error{syscall.Errno(19)} // ERROR_WRITE_PROTECT

// needsWriting reports whether a sync failed because the file was opened for reading
// alone.
func needsWriting(err error) bool { return errors.Is(err, syscall.ERROR_ACCESS_DENIED) }
