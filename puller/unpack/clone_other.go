//go:build !linux

package unpack

import (
	"errors"
	"os"
)

// clone returns an error, because the standard library does not have a call that clones files
// on this system.
func clone(_, _ *os.File) error { return errors.ErrUnsupported }
