//go:build !unix && !windows

package layout

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// lockHandle refuses: without locks two processes would write to one partial.
func lockHandle(*os.File) error {
	return fmt.Errorf("locks of files on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func unlockHandle(*os.File) error { return errors.ErrUnsupported }
