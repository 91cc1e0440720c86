package layout

import (
	"context"
	"slices"
	"sync"
)

// A batch joins work that waits for the same thing: whoever gets the turn does
// the work of all who wait by then. The zero value is not usable; see newBatch.
type batch[T any] struct {
	turn chan struct{} // holds one value while somebody works
	mu   sync.Mutex
	wait []*job[T]
}

type job[T any] struct {
	item T
	err  error
	done chan struct{}
}

func newBatch[T any]() *batch[T] { return &batch[T]{turn: make(chan struct{}, 1)} }

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
	defer func() { <-b.turn }()
	select {
	case <-j.done: // done by the former holder of the turn
		return j.err
	default:
	}
	var taken []*job[T]
	err := work(ctx, func() []*job[T] {
		b.mu.Lock()
		defer b.mu.Unlock()
		taken, b.wait = b.wait, nil
		return taken
	})
	for _, t := range taken {
		close(t.done)
	}
	if err != nil {
		return b.leave(j, err)
	}
	return j.err
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
