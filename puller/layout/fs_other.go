//go:build !linux

package layout

import (
	"errors"
	"os"
)

func renameAt(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }

func syncFS(*os.File) error { return errors.ErrUnsupported }
