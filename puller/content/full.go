package content

import (
	"errors"
	"slices"
)

// ErrNoSpace says that a store has no room left: the disk is full, or a quota is used
// up. It holds for every error of kind ErrStore whose cause is one of the system's
// numbers for that, and it is an ENOSPC of package syscall where that has one. So a
// caller tests for one name on all systems:
//
//	errors.Is(err, content.ErrNoSpace)
var ErrNoSpace error = noSpace{}

type noSpace struct{}

func (noSpace) Error() string { return "no space left on device" }

// Is makes ErrNoSpace the first of the system's numbers, ENOSPC.
func (noSpace) Is(target error) bool { return len(fullNumbers) > 0 && target == fullNumbers[0] }

// Is makes an error of a store an ErrNoSpace if its cause is any of the system's
// numbers for a full disk.
func (e *Error) Is(target error) bool {
	if e.Kind != ErrStore || target != ErrNoSpace && !ErrNoSpace.(noSpace).Is(target) {
		return false
	}
	return slices.ContainsFunc(fullNumbers, func(n error) bool { return errors.Is(e.Err, n) })
}
