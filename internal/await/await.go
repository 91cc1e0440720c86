// Package await calls functions that may ignore the end of their context. A runtime, a
// plugin or a file system that hangs must not hold up a caller whose context has ended.
package await

import (
	"context"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
)

// Grace is how long a caller waits, after its context has ended, for the called function to
// return. Code that obeys its context returns within this time, so usually no goroutine is
// left when the caller returns.
const Grace = 50 * time.Millisecond

// Call calls fn and returns what fn returns. If fn has not returned within Grace after
// the end of ctx, Call returns without it, and ok is false. A panic of fn is raised in
// the caller, unless Call has returned without fn.
func Call[T any](ctx context.Context, fn func() T) (got T, ok bool) {
	if ctx.Done() == nil {
		return fn(), true
	}
	call := &call[T]{done: make(chan struct{})}
	go panics.Catch(func() { call.got = fn() }, func(panicked *panics.Error) {
		call.panicked = panicked
		close(call.done)
	})
	if !Done(ctx, call.done) {
		return got, false
	}
	call.panicked.Raise()
	return call.got, true
}

type call[T any] struct {
	got      T
	panicked *panics.Error
	done     chan struct{} // closed when got or panicked is set
}

// Done waits until done is closed, but not longer than Grace after the end of ctx. It
// reports whether done is closed.
func Done(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	timer := time.NewTimer(Grace)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
