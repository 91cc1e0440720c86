package layout

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
)

// While another process has a lock, lockFile asks for the lock again after a wait. The
// wait doubles from lockPollMin up to lockPollMax.
const (
	lockPollMin = time.Millisecond
	lockPollMax = 50 * time.Millisecond
)

// A keyLocks value is the locks of one Layout within its process, by key. The goroutines
// of the process wait here for each other, in turn and without polling. Only the
// goroutine that has the lock here asks the file system for the lock among processes.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

// A keyLock is the lock of one key within the process.
type keyLock struct {
	token chan struct{} // holds one value while a goroutine has the lock
	users int           // number of goroutines that have the lock or wait for it
}

// lock takes the lock of key, first within the process and then among processes. If ctx
// ends before, lock returns ctx's error.
func (t *tree) lock(ctx context.Context, key string) (unlock func(), err error) {
	release, err := t.keys.take(ctx, key)
	if err != nil {
		return nil, err
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
	release, ok := t.keys.tryTake(key)
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

// tryTake takes the lock of key within the process. ok is false if a goroutine has it or
// waits for it.
func (k *keyLocks) tryTake(key string) (release func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held[key] != nil {
		return nil, false
	}
	e := k.enter(key)
	e.token <- struct{}{}
	return func() { <-e.token; k.leave(key, e) }, true
}

// enter adds a user to the lock of key. The caller holds mu.
func (k *keyLocks) enter(key string) *keyLock {
	e := k.held[key]
	if e == nil {
		e = &keyLock{token: make(chan struct{}, 1)}
		if k.held == nil {
			k.held = make(map[string]*keyLock)
		}
		k.held[key] = e
	}
	e.users++
	return e
}

// leave removes a user from the lock of key, and the lock with its last user.
func (k *keyLocks) leave(key string, e *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(k.held, key)
	}
}

// take takes the lock of key within the process. It waits until ctx ends.
func (k *keyLocks) take(ctx context.Context, key string) (release func(), err error) {
	k.mu.Lock()
	e := k.enter(key)
	k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		k.leave(key, e)
		return nil, err
	}
	select {
	case e.token <- struct{}{}:
		return func() { <-e.token; k.leave(key, e) }, nil
	case <-ctx.Done():
		k.leave(key, e)
		return nil, ctx.Err()
	}
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
