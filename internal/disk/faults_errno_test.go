//go:build !windows && !plan9

package disk

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The numbers of Unix: a store to be read, and AIX's answer to a sync of a file that
// was opened for reading alone.
func TestFaults(t *testing.T) {
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
