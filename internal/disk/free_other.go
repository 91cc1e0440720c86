//go:build !linux && !darwin && !freebsd && !dragonfly && !aix && !openbsd && !windows

package disk

import (
	"errors"
	"math"
	"os"
)

// freeBytes returns math.MaxInt64, because package syscall does not have a call for free
// space on these systems.
func freeBytes(*os.File) (int64, error) { return math.MaxInt64, nil }

// Usage returns errors.ErrUnsupported, for the same reason.
func Usage(string) (total, free int64, err error) { return 0, 0, errors.ErrUnsupported }
