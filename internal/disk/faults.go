package disk

// A fault is a set of errors of this package. One error number of a system may mean
// several of these errors. The operation that returned the number decides which of them
// it means.
type fault uint8

const (
	busy fault = 1 << iota
	readOnly
	needsWriting
	link // the name is that of a symbolic link
)

// mark returns err marked as an error of this package, if err means one of the faults
// possible. possible are the faults that the operation can have.
func mark(err error, possible fault) error {
	if err == nil {
		return nil
	}
	return markAs(err, faultOf(err)&possible)
}

// markAs returns err marked with the first error of f, or unchanged if f is empty.
func markAs(err error, f fault) error {
	switch {
	case f&busy != 0:
		return marked{err, ErrBusy}
	case f&readOnly != 0:
		return marked{err, ErrReadOnly}
	case f&needsWriting != 0:
		return marked{err, ErrNeedsWriting}
	}
	return err
}

// A marked error has the text of the system's error. For errors.Is it is that error and
// an error of this package.
type marked struct {
	error
	mark error
}

func (m marked) Is(target error) bool { return target == m.mark }
func (m marked) Unwrap() error        { return m.error }

// Error numbers of Windows.
const (
	winAccessDenied     = 5
	winWriteProtect     = 19
	winSharingViolation = 32
	winLockViolation    = 33
	winIOPending        = 997
)

// windowsFault returns what an error number of Windows means. The function is not in a
// file for Windows only, so that its test runs on every system.
//
// Windows denies access to a file that another program has open without sharing it, and
// to a file that is about to be removed. It also denies the sync of a file that was
// opened only for reading.
func windowsFault(number uintptr) fault {
	switch number {
	case winAccessDenied:
		return busy | needsWriting
	case winSharingViolation:
		return busy
	case winWriteProtect:
		return readOnly
	}
	return 0
}

// windowsLocked reports whether an error number of Windows means that another process has
// the lock.
func windowsLocked(number uintptr) bool {
	return number == winLockViolation || number == winIOPending
}
