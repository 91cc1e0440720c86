//go:build !linux

package layout

import (
	"errors"
	"os"
	"syscall"
	"time"
)

func renameAt(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }

func openAt(syscall.RawConn, string, string, int) (*os.File, error) {
	return nil, errors.ErrUnsupported
}

func chtimes(*os.File, time.Time, time.Time) error { return errors.ErrUnsupported }

func syncFS(*os.File) error { return errors.ErrUnsupported }
