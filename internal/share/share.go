// Package share lets callers that need the same result at the same time share one run of
// the work that produces it.
//
// There is at most one run at a time for a key. When a caller's context ends, that caller
// leaves, and the run goes on for the others. The run is cancelled when the last caller has
// left. A later caller gets another run. The run's context has the values of the first
// caller's context, but does not end with it. A panic of the work reaches every caller that
// waits, as package panics describes.
//
// Use [Calls] if callers only wait for an answer. Use [Group] if the work needs to know its
// callers, or must start later than the run.
package share

import (
	"context"
	"slices"
	"sync"

	"github.com/pullkit/pullkit/internal/panics"
)

// A Group holds the runs that are under way, by key K. W identifies a caller that waits. V
// is the value that the callers of a run share, such as its state and its result. The zero
// Group is ready for use.
//
// The Group's lock is held only inside its methods. A caller that has a lock of its own
// locks it first.
type Group[K, W comparable, V any] struct{ runs runs }

// A Run is one run of the work. Several callers may wait for it.
type Run[K, W comparable, V any] struct {
	// Value is the value that Join's newValue returned.
	Value V
	run
}

// Join adds waiter to the callers that wait for the run of key. If no run of key is under
// way, Join makes one, with the value that newValue returns, and first is true. Then this
// caller must make sure that Go is called, unless all callers leave before.
func (g *Group[K, W, V]) Join(ctx context.Context, key K, waiter W, newValue func() V) (r *Run[K, W, V], first bool) {
	self, first := g.runs.join(ctx, key, waiter, func() *run {
		r := &Run[K, W, V]{Value: newValue()}
		r.self = r
		return &r.run
	})
	return self.(*Run[K, W, V]), first
}

// Len returns the number of runs that callers can join.
func (g *Group[K, W, V]) Len() int { return g.runs.len() }

// Waiting returns the number of callers that wait for the run of key.
func (g *Group[K, W, V]) Waiting(key K) int { return g.runs.waiting(key) }

// Values returns the values of the runs that callers can join.
func (g *Group[K, W, V]) Values() []V {
	all := g.runs.all()
	values := make([]V, 0, len(all))
	for _, self := range all {
		values = append(values, self.(*Run[K, W, V]).Value)
	}
	return values
}

// Go calls work in a new goroutine. When work has returned or panicked, Go closes the run
// to further callers, calls settle with the callers that have not left, and closes Done.
// The Group's lock is held while settle runs. settle may be nil.
func (r *Run[K, W, V]) Go(work func(context.Context), settle func(waiters []W, panicked *panics.Error)) {
	if settle == nil {
		settle = func([]W, *panics.Error) {}
	}
	r.start(work, func(panicked *panics.Error) { settle(typed[W](r.waiters), panicked) })
}

// Waiters returns the callers that wait for the run and have not left.
func (r *Run[K, W, V]) Waiters() []W {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	return typed[W](r.waiters)
}

// Leave removes waiter. If no caller is left, the run's context ends, a later caller gets
// another run, and last is true.
func (r *Run[K, W, V]) Leave(waiter W) (last bool) { return r.leave(waiter) }

func typed[W any](waiters []any) []W {
	list := make([]W, 0, len(waiters))
	for _, w := range waiters {
		list = append(list, w.(W))
	}
	return list
}

// runs has the runs of a Group. Like run, it does not know the Group's types, so that a
// program that has Groups of several types has this code only once.
type runs struct {
	mu    sync.Mutex
	byKey map[any]*run
}

// A run is what a Run of any type has.
type run struct {
	self     any // the Run
	group    *runs
	key      any
	ctx      context.Context
	cancel   context.CancelFunc
	waiters  []any         // the callers that have not left; guarded by the group's lock
	done     chan struct{} // closed when the run has ended
	panicked *panics.Error // set before done is closed
}

// join is Join. It returns the Run.
func (g *runs) join(ctx context.Context, key, waiter any, newRun func() *run) (self any, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, ok := g.byKey[key]
	if !ok {
		r = newRun()
		r.group, r.key, r.done = g, key, make(chan struct{})
		r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
		if g.byKey == nil {
			g.byKey = map[any]*run{}
		}
		g.byKey[key] = r
	}
	r.waiters = append(r.waiters, waiter)
	return r.self, !ok
}

// all returns the Runs that callers can join.
func (g *runs) all() []any {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]any, 0, len(g.byKey))
	for _, r := range g.byKey {
		all = append(all, r.self)
	}
	return all
}

func (g *runs) len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byKey)
}

func (g *runs) waiting(key any) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.byKey[key]; r != nil {
		return len(r.waiters)
	}
	return 0
}

// start is Go. settle is called with the lock held.
func (r *run) start(work func(context.Context), settle func(*panics.Error)) {
	go panics.Catch(func() { work(r.ctx) }, func(panicked *panics.Error) {
		r.cancel()
		r.panicked = panicked
		r.group.mu.Lock()
		defer r.group.mu.Unlock()
		r.forget()
		settle(panicked)
		close(r.done)
	})
}

// Context returns the context of the run. It ends with the run, or when the last caller
// has left.
func (r *run) Context() context.Context { return r.ctx }

// Done returns a channel that is closed when the run has ended. It is never closed if Go
// is never called.
func (r *run) Done() <-chan struct{} { return r.done }

// Raise panics if the work has panicked. It may be called only after Done is closed.
func (r *run) Raise() { r.panicked.Raise() }

func (r *run) leave(waiter any) (last bool) {
	r.group.mu.Lock()
	defer r.group.mu.Unlock()
	if i := slices.Index(r.waiters, waiter); i >= 0 {
		r.waiters = slices.Delete(r.waiters, i, i+1)
	}
	if len(r.waiters) > 0 {
		return false
	}
	r.cancel()
	r.forget()
	return true
}

// forget removes r from the group, unless another run has taken its place. The caller holds
// the group's lock.
func (r *run) forget() {
	if r.group.byKey[r.key] == r {
		delete(r.group.byKey, r.key)
	}
}

// Calls lets callers that ask the same question at the same time share the answer.
// The zero Calls is ready for use.
type Calls[K comparable, V any] struct {
	group Group[K, *caller, *answer[V]]
}

// A caller is not an empty struct, because two pointers to empty structs may be equal.
type caller struct{ _ byte }

type answer[V any] struct {
	value V
	err   error
}

// Do returns the result of fn for key. If another caller's fn for key is running, Do waits
// for its result and does not call fn. If ctx ends first, Do returns the cause of its end.
func (c *Calls[K, V]) Do(ctx context.Context, key K, fn func(context.Context) (V, error)) (V, error) {
	self := &caller{}
	run, first := c.group.Join(ctx, key, self, func() *answer[V] { return &answer[V]{} })
	got := run.Value
	if first {
		run.Go(func(ctx context.Context) { got.value, got.err = fn(ctx) }, nil)
	}
	select {
	case <-run.Done():
		run.Raise()
		return got.value, got.err
	case <-ctx.Done():
		run.Leave(self)
		var zero V
		return zero, context.Cause(ctx)
	}
}

// Len returns the number of calls under way.
func (c *Calls[K, V]) Len() int { return c.group.Len() }

// Waiting returns the number of callers that wait for the call under way for key.
func (c *Calls[K, V]) Waiting(key K) int { return c.group.Waiting(key) }
