package layout

import (
	"context"
	"errors"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
)

// While another process has a lock, lockFile asks for the lock again after a wait. The
// wait doubles from lockPollMin up to lockPollMax.
const (
	lockPollMin = time.Millisecond
	lockPollMax = 50 * time.Millisecond
)

// lock takes the lock of key, first within the process and then among processes. The
// goroutines of the process wait for each other in turn, without polling. Only the goroutine
// that has the lock within the process asks the file system for the lock among processes.
// If ctx ends before, lock returns ctx's error.
func (t *tree) lock(ctx context.Context, key string) (unlock func(), err error) {
	release, err := t.keys.Lock(ctx, key)
	if err != nil {
		return nil, ctx.Err()
	}
	unlockFile, err := t.lockFile(ctx, key)
	if err != nil {
		release()
		return nil, err
	}
	return func() {
		if err := unlockFile(); err != nil {
			t.log.Warn("a lock could not be released; it ends with the process", "key", key, "error", err)
		}
		release()
	}, nil
}

// tryLock takes the lock of key. ok is false if another goroutine or process has it, or
// if the lock cannot be taken.
func (t *tree) tryLock(key string) (unlock func(), ok bool) {
	release, ok := t.keys.TryLock(key)
	if !ok {
		return nil, false
	}
	unlockFile, err := t.fs.TryLock(lockName, key)
	if err != nil {
		release()
		return nil, false
	}
	return func() { unlockFile(); release() }, true
}

// lockFile takes the lock of key among processes. It waits until ctx ends at the latest.
// If the state directory is replaced during the wait, lockFile takes the lock in the new
// directory. If the new directory is a link, it returns an error.
func (t *tree) lockFile(ctx context.Context, key string) (func() error, error) {
	busyUntil := time.Now().Add(disk.BusyFor)
	for wait := lockPollMin; ; wait = min(2*wait, lockPollMax) {
		unlock, err := t.fs.TryLock(lockName, key)
		if err == nil {
			return unlock, nil
		}
		if !errors.Is(err, disk.ErrLocked) && !(errors.Is(err, disk.ErrBusy) && time.Now().Before(busyUntil)) {
			return nil, t.fail(err, "lock %s", key)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
		if err := t.checkDir(stateDir); err != nil {
			return nil, t.fail(err, "lock %s", key)
		}
	}
}
