//go:build !linux

package layout

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"runtime"
	"syscall"
	"time"
)

func renameAt(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }

func openAt(syscall.RawConn, string, string, int) (*os.File, error) {
	return nil, errors.ErrUnsupported
}

func chtimes(*os.File, time.Time, time.Time) error { return errors.ErrUnsupported }

func mkdirApart(*osDir, string, string) error { return errors.ErrUnsupported }

func links(fs.FileInfo) uint64 { return 1 }

func reserve(*os.File, int64, int64) error { return errors.ErrUnsupported }

func syncFS(*os.File) error { return errors.ErrUnsupported }

// syncDir does nothing on Windows, which has no such operation: names are
// journalled there.
func syncDir(d *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return d.Sync()
}

func freeBytes(*os.File) (int64, error) { return math.MaxInt64, nil }
