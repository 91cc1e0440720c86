//go:build !linux

package disk

import (
	"errors"
	"os"
)

// A locker locks one file for each key.
type locker struct{}

func (l *locker) tryLock(dir *os.Root, _, key string) (func() error, error) {
	return tryLockFile(dir, key)
}

func (l *locker) close() error { return nil }

// renameAt is not supported, so OS.Rename uses paths.
func renameAt(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }

func syncFS(*os.File) error { return errors.ErrUnsupported }

func reserve(*os.File, int64, int64) error { return errors.ErrUnsupported }
