//go:build !unix && !windows

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// lockHandle returns an error, because these systems do not have locks of files. Without
// locks two processes would write to one file.
func lockHandle(*os.File) error {
	return fmt.Errorf("locks of files on %s are not supported: %w", runtime.GOOS, errors.ErrUnsupported)
}

func unlockHandle(*os.File) error { return errors.ErrUnsupported }

// links returns 1, because these systems do not report how many names a file has.
func links(*os.File, fs.FileInfo) (uint64, error) { return 1, nil }
