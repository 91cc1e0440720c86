package layout

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// A batch joins work that waits for the same thing: whoever gets the turn does
// the work of all who wait by then. The zero value is not usable; see newBatch.
type batch[T any] struct {
	turn chan struct{} // holds one value while somebody works
	more func() bool   // says whether others are on their way
	last int           // how many jobs the last turn did; for whoever has the turn
	over time.Time     // when it ended
	mu   sync.Mutex
	wait []*job[T]
}

// linger is how long after a turn that did several jobs the next one begins at
// the soonest, while more are on their way: each turn costs syncs, whose price
// hardly depends on how much there is to be synced.
const linger = 4 * time.Millisecond

type job[T any] struct {
	item T
	err  error
	done chan struct{}
}

func newBatch[T any](more func() bool) *batch[T] {
	return &batch[T]{turn: make(chan struct{}, 1), more: more}
}

// do has item worked on, by this goroutine or another, and returns its error.
// work is called with take, which gives all that wait, this one's item among
// them unless another did it; it sets each job's err. If work returns an error
// before it called take, only this caller is told. ctx ends the wait for the
// turn, and work, which gets it, as long as take was not called.
func (b *batch[T]) do(ctx context.Context, item T, work func(ctx context.Context, take func() []*job[T]) error) error {
	j := &job[T]{item: item, done: make(chan struct{})}
	b.mu.Lock()
	b.wait = append(b.wait, j)
	b.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return b.leave(j, ctx.Err())
	}
	var taken []*job[T]
	over := false
	defer func() {
		if !over {
			b.abandon(j, taken)
		}
		<-b.turn
	}()
	select {
	case <-j.done: // done by the former holder of the turn
		over = true
		return j.err
	default:
	}
	if b.last > 1 && b.more() {
		time.Sleep(linger - time.Since(b.over))
	}
	err := work(ctx, func() []*job[T] {
		b.mu.Lock()
		defer b.mu.Unlock()
		taken, b.wait = b.wait, nil
		return taken
	})
	over = true
	b.last, b.over = len(taken), time.Now()
	for _, t := range taken {
		close(t.done)
	}
	if err != nil {
		return b.leave(j, err)
	}
	return j.err
}

var errAbandoned = errors.New("whoever did this for several callers panicked")

// abandon ends the turn of a work that panicked: nobody takes its jobs for done,
// or waits for them.
func (b *batch[T]) abandon(j *job[T], taken []*job[T]) {
	b.mu.Lock()
	b.wait = slices.DeleteFunc(b.wait, func(x *job[T]) bool { return x == j })
	b.mu.Unlock()
	for _, t := range taken {
		if t.err == nil {
			t.err = errAbandoned
		}
		close(t.done)
	}
}

// leave takes j out of those that wait. If it is worked on already, its outcome counts.
func (b *batch[T]) leave(j *job[T], err error) error {
	b.mu.Lock()
	i := slices.Index(b.wait, j)
	if i >= 0 {
		b.wait = slices.Delete(b.wait, i, i+1)
	}
	b.mu.Unlock()
	if i >= 0 {
		return err
	}
	<-j.done
	return j.err
}
