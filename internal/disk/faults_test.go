package disk

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Each error number of Windows means an error of this package only for operations that
// can have it. A rename and a lock are tried again while another program has the file
// open. A sync is done through a handle for writing. A write-protected volume is
// read-only.
func TestErrorNumbersOfWindowsAreMarked(t *testing.T) {
	for number, want := range map[uintptr]fault{
		5:    busy | needsWriting, // ERROR_ACCESS_DENIED
		32:   busy,                // ERROR_SHARING_VIOLATION
		19:   readOnly,            // ERROR_WRITE_PROTECT
		0:    0,
		2:    0, // ERROR_FILE_NOT_FOUND
		112:  0, // ERROR_DISK_FULL
		1314: 0, // ERROR_PRIVILEGE_NOT_HELD
	} {
		assert.Equal(t, want, windowsFault(number), "%d", number)
	}
	for number, want := range map[uintptr]bool{33: true, 997: true, 5: false, 32: false, 158: false} {
		assert.Equal(t, want, windowsLocked(number), "%d", number)
	}
	write := &fs.PathError{Op: "open", Path: "blob", Err: os.ErrPermission}
	for _, row := range []struct {
		number   uintptr
		possible fault
		want     error
	}{
		{5, busy, ErrBusy},
		{5, needsWriting | readOnly, ErrNeedsWriting},
		{5, readOnly, nil},
		{32, busy, ErrBusy},
		{32, needsWriting | readOnly, nil},
		{19, readOnly, ErrReadOnly},
		{19, needsWriting | readOnly, ErrReadOnly},
		{19, busy, nil},
	} {
		err := markAs(write, windowsFault(row.number)&row.possible)
		for _, is := range []error{ErrBusy, ErrNeedsWriting, ErrReadOnly} {
			assert.Equal(t, is == row.want, errors.Is(err, is), "%d: %v", row.number, is)
		}
		assert.ErrorIs(t, err, os.ErrPermission, "the system's error is kept")
		assert.Equal(t, write.Error(), err.Error())
	}
}
