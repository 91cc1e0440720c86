//go:build !linux

package layout

import "os"

// A locker locks a file for each key.
type locker struct{}

func (l *locker) tryLock(root *os.Root, _, key string) (func() error, error) {
	return tryLockFile(root, key)
}

func (l *locker) close() error { return nil }
