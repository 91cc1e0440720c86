package disk

// A fault is a set of errors of this package that one number of the system may mean;
// which of them it does mean depends on the operation.
type fault uint8

const (
	busy fault = 1 << iota
	readOnly
	needsWriting
	link // the name is a symbolic link's
)

// mark returns err as one that is also an error of this package, if that is among
// the faults that the operation can have.
func mark(err error, possible fault) error {
	if err == nil {
		return nil
	}
	return markAs(err, faultOf(err)&possible)
}

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

// A marked error has the text of the system's error and is an error of this package.
type marked struct {
	error
	mark error
}

func (m marked) Is(target error) bool { return target == m.mark }
func (m marked) Unwrap() error        { return m.error }

// Numbers of Windows.
const (
	winAccessDenied     = 5
	winWriteProtect     = 19
	winSharingViolation = 32
	winLockViolation    = 33
	winIOPending        = 997
)

// windowsFault is what a number of Windows means. It is here, and not in a file for
// Windows, so that it is tested on each system.
//
// Access is denied for a file that another program has open without sharing it, for
// one that is about to be removed, and for a sync of a file that was opened for
// reading alone.
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

// windowsLocked reports whether a number of Windows says that another process has a lock.
func windowsLocked(number uintptr) bool {
	return number == winLockViolation || number == winIOPending
}
