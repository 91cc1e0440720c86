// Package keylock has locks for the goroutines of a process, one lock for each key.
//
// A lock exists only while a goroutine has it or waits for it, so that there may be any
// number of keys. Goroutines get a lock in the order in which they asked for it. A wait
// ends with its context.
package keylock

import (
	"context"
	"sync"
)

// Locks are the locks of all keys. The zero Locks is ready for use.
type Locks struct {
	mu    sync.Mutex
	byKey map[string]*lock
}

// A lock is the lock of one key.
type lock struct {
	token chan struct{} // holds one value while a goroutine has the lock
	users int           // number of goroutines that have the lock or wait for it
}

// Lock takes the lock of key, and waits for it until ctx ends. The error is the cause of
// the end of ctx. A ctx that has ended gets no lock. unlock must be called once.
func (l *Locks) Lock(ctx context.Context, key string) (unlock func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	l.mu.Lock()
	e := l.enter(key)
	l.mu.Unlock()
	select {
	case e.token <- struct{}{}:
		return func() { l.unlock(key, e) }, nil
	case <-ctx.Done():
		l.leave(key, e)
		return nil, context.Cause(ctx)
	}
}

// TryLock takes the lock of key without a wait. ok is false if a goroutine has the lock or
// waits for it.
func (l *Locks) TryLock(key string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byKey[key] != nil {
		return nil, false
	}
	e := l.enter(key)
	e.token <- struct{}{}
	return func() { l.unlock(key, e) }, true
}

// Len returns the number of keys whose lock a goroutine has or waits for.
func (l *Locks) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byKey)
}

// enter adds a user to the lock of key. The caller holds mu.
func (l *Locks) enter(key string) *lock {
	e := l.byKey[key]
	if e == nil {
		e = &lock{token: make(chan struct{}, 1)}
		if l.byKey == nil {
			l.byKey = map[string]*lock{}
		}
		l.byKey[key] = e
	}
	e.users++
	return e
}

// unlock releases the lock of key.
func (l *Locks) unlock(key string, e *lock) {
	<-e.token
	l.leave(key, e)
}

// leave removes a user from the lock of key, and the lock with its last user.
func (l *Locks) leave(key string, e *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(l.byKey, key)
	}
}
