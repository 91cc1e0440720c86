package puller

import (
	"context"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
)

// A PanicError is what a call of a Puller panics with after a callback panicked in
// another goroutine than the caller's: Value is what the callback panicked with, Stack
// the stack of its goroutine. It is an error that wraps Value where that is one.
type PanicError = panics.Error

// leaveGrace is how long a call waits, after its context has ended, for what it called
// to stop, so that as a rule nothing goes on behind the caller's back.
const leaveGrace = 50 * time.Millisecond

// await calls fn and returns what it returns. fn may ignore the end of ctx: then await
// leaves it alone, and ok is false. A panic of fn is the caller's.
func await[T any](ctx context.Context, fn func() T) (got T, ok bool) {
	if ctx.Done() == nil {
		return fn(), true
	}
	run := &awaited[T]{done: make(chan struct{})}
	go panics.Catch(func() { run.got = fn() }, func(p *panics.Error) {
		run.panicked = p
		close(run.done)
	})
	if !within(ctx, run.done) {
		return got, false
	}
	run.panicked.Raise()
	return run.got, true
}

type awaited[T any] struct {
	got      T
	panicked *panics.Error
	done     chan struct{} // closed when one of them is set
}

// within waits until done is closed, but not longer than leaveGrace after ctx has ended.
func within(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	timer := time.NewTimer(leaveGrace)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}
