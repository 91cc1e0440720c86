//go:build !linux

package unpack

import (
	"errors"
	"os"
)

// clone makes a file to share the bytes of another one. This system cannot do it in a way
// that the standard library offers.
func clone(_, _ *os.File) error { return errors.ErrUnsupported }
