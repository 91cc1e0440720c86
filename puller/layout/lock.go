package layout

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
)

// Locks of other processes are asked for again after a wait that doubles from
// the first of these to the second.
const (
	lockPollMin = time.Millisecond
	lockPollMax = 50 * time.Millisecond
)

// keyLocks are the locks by key within one Layout: its goroutines wait for each
// other here, in turn and without polling, and one of them asks the file system.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	token chan struct{} // holds one value while the lock is taken
	users int           // holder and waiters
}

// lock waits for key, within the process and then among processes. The wait
// ends with ctx, whose error is then returned.
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
			t.log.Warn("a lock could not be given back; it ends with the process", "key", key, "error", err)
		}
		release()
	}, nil
}

// tryLock takes key if nobody has it.
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

// enter counts a user of key; the caller holds mu.
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

func (k *keyLocks) leave(key string, e *keyLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(k.held, key)
	}
}

// take waits for key in the process.
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

// lockFile waits for the lock of other processes. A state directory that is replaced
// meanwhile does not hold it up: the lock is then taken in the new one, or the
// directory is an error if it is a link.
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
