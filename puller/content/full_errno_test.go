//go:build !plan9

package content_test

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
)

// TestNoSpaceIsOneName: each number that the system has for a full disk or a quota matches
// ErrNoSpace and ENOSPC. No other error does.
func TestNoSpaceIsOneName(t *testing.T) {
	write := func(err error) error {
		return fmt.Errorf("pull: %w", &content.Error{Reason: content.ErrStore, Err: &fs.PathError{Op: "write", Path: "blob", Err: err}})
	}
	for _, number := range append(content.FullNumbers, content.ErrNoSpace, error(syscall.ENOSPC), error(syscall.EDQUOT)) {
		assert.ErrorIs(t, write(number), content.ErrNoSpace, "%v", number)
		assert.ErrorIs(t, write(number), syscall.ENOSPC, "%v", number)
		assert.ErrorIs(t, write(number), content.ErrStore, "%v", number)
	}
	assert.NotEmpty(t, content.FullNumbers)
	for _, err := range []error{
		write(syscall.EIO), write(fs.ErrPermission), fs.ErrPermission, nil, content.ErrStore,
		&content.Error{Reason: content.ErrStore},
		&content.Error{Reason: content.ErrNetwork, Err: syscall.ENOSPC},
	} {
		assert.NotErrorIs(t, err, content.ErrNoSpace)
	}
	assert.False(t, errors.Is(write(syscall.EIO), syscall.ENOSPC))
}

func ExampleErrNoSpace() {
	err := fmt.Errorf("write blob: %w", &content.Error{Reason: content.ErrStore, Err: content.ErrNoSpace})
	fmt.Println(errors.Is(err, content.ErrNoSpace), errors.Is(err, content.ErrStore))
	fmt.Println(err)
	// Output:
	// true true
	// write blob: store failure: no space left on device
}
