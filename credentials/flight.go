package credentials

import (
	"context"
	"sync"

	"github.com/pullkit/pullkit/internal/panics"
)

// flights lets the callers that ask the same question at the same time share one
// answer. The zero value is ready.
type flights[Q comparable, A any] struct {
	mu      sync.Mutex
	running map[Q]*flight[Q, A]
}

type flight[Q comparable, A any] struct {
	question Q
	waiting  int
	cancel   context.CancelFunc
	done     chan struct{} // closed when answer, err and panicked are set
	answer   A
	err      error
	panicked *panics.Error
}

// do runs fn for question, or waits for the run that is under way for scope,
// which may be for another question: answered tells which one it was for. A
// caller whose ctx ends leaves alone; the run is cancelled when all have left. A
// panic of fn reaches all callers that wait for the run.
func (f *flights[Q, A]) do(ctx context.Context, scope, question Q, fn func(context.Context) (A, error)) (answered Q, answer A, err error) {
	f.mu.Lock()
	run, ok := f.running[scope]
	if !ok {
		run = f.start(ctx, scope, question, fn)
	}
	run.waiting++
	f.mu.Unlock()

	select {
	case <-run.done:
		run.panicked.Raise()
		return run.question, run.answer, run.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	run.waiting--
	if run.waiting == 0 {
		run.cancel()
		f.forget(scope, run) // who comes now gets a run of its own
	}
	return run.question, answer, context.Cause(ctx)
}

// start starts a run; f.mu is held.
func (f *flights[Q, A]) start(ctx context.Context, scope, question Q, fn func(context.Context) (A, error)) *flight[Q, A] {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := &flight[Q, A]{question: question, cancel: cancel, done: make(chan struct{})}
	if f.running == nil {
		f.running = map[Q]*flight[Q, A]{}
	}
	f.running[scope] = run
	go panics.Catch(func() {
		run.answer, run.err = fn(ctx)
	}, func(panicked *panics.Error) {
		cancel()
		run.panicked = panicked
		f.mu.Lock()
		f.forget(scope, run)
		f.mu.Unlock()
		close(run.done) // last: who has the answer finds f at rest
	})
	return run
}

// forget takes run out, unless another one has taken its place; f.mu is held.
func (f *flights[Q, A]) forget(scope Q, run *flight[Q, A]) {
	if f.running[scope] == run {
		delete(f.running, scope)
	}
}
