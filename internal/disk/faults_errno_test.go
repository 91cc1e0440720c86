//go:build !windows && !plan9

package disk

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Error numbers of Unix mean the errors of this package: those of a read-only file
// system, and that of AIX for a sync of a file that was opened only for reading.
func TestErrorNumbersOfUnixAreMarked(t *testing.T) {
	all := busy | readOnly | needsWriting
	wrap := func(n syscall.Errno) error { return &os.PathError{Op: "sync", Path: "blob", Err: n} }
	assert.NoError(t, mark(nil, all))
	assert.ErrorIs(t, mark(wrap(syscall.EROFS), all), ErrReadOnly)
	assert.ErrorIs(t, mark(wrap(syscall.EINVAL), all), ErrReadOnly)
	assert.ErrorIs(t, mark(wrap(syscall.EBADF), all), ErrNeedsWriting)
	assert.NotErrorIs(t, mark(wrap(syscall.EBADF), readOnly), ErrNeedsWriting)
	for _, number := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EACCES} {
		assert.Equal(t, wrap(number), mark(wrap(number), all))
	}
}
