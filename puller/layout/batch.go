package layout

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// A batch is a group commit: one caller at a time has the turn, and does the work for all
// callers that wait. newBatch returns a batch; the zero batch is not usable.
type batch[T any] struct {
	turn chan struct{}          // holds one value while a caller has the turn
	over func() <-chan struct{} // see arrivals.over
	last int                    // number of jobs of the last turn; guarded by turn
	mu   sync.Mutex
	wait []*job[T]
}

// linger is the longest time that a turn waits for other callers that are expected soon.
// A turn does not wait if the last turn had only one job. Each turn costs several syncs,
// and a sync costs about the same for few bytes as for many. The first turn waits longer,
// up to firstLinger, because it often has the blobs of the first image, which come over
// new connections.
const (
	linger      = 4 * time.Millisecond
	firstLinger = 5 * linger
)

// An arrivals value counts ingests whose bytes have not all arrived. Their callers are
// expected to commit them soon.
type arrivals struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n becomes 0; nil while n is 0
}

func (a *arrivals) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n == 0 {
		a.none = make(chan struct{})
	}
	a.n++
}

func (a *arrivals) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n--; a.n == 0 {
		close(a.none)
		a.none = nil
	}
}

// over returns a channel that is closed when no ingest is counted any more. It returns
// nil if no ingest is counted now.
func (a *arrivals) over() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.none
}

// A job is the work for one caller.
type job[T any] struct {
	item T
	err  error
	done chan struct{}
}

func newBatch[T any](over func() <-chan struct{}) *batch[T] {
	return &batch[T]{turn: make(chan struct{}, 1), over: over}
}

// add adds a job to those that wait. The caller then calls do.
func (b *batch[T]) add(item T) *job[T] {
	j := &job[T]{item: item, done: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wait = append(b.wait, j)
	return j
}

// do returns when this caller or another has done the job that add returned. It returns
// the job's error.
//
// The caller that has the turn calls work. work calls take, which returns all jobs that
// wait, and sets the error of each. If another caller has already done this caller's job,
// take does not return that job. If work returns an error before it calls take, only this
// caller gets that error. If ctx ends before the caller has the turn, do returns. work
// gets ctx too, and may use it until it calls take.
func (b *batch[T]) do(ctx context.Context, j *job[T], work func(ctx context.Context, take func() []*job[T]) error) error {
	select {
	case <-j.done:
		return j.err
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return b.leave(j, ctx.Err())
	}
	var taken []*job[T]
	done := false
	defer func() {
		if !done {
			b.abandon(j, taken)
		}
		<-b.turn
	}()
	select {
	case <-j.done: // the caller that had the turn before did the work
		done = true
		return j.err
	default:
	}
	if over := b.over(); over != nil && b.last != 1 {
		wait := linger
		if b.last == 0 {
			wait = firstLinger
		}
		timer := time.NewTimer(wait)
		select {
		case <-over:
		case <-timer.C:
		}
		timer.Stop()
	}
	err := work(ctx, func() []*job[T] {
		b.mu.Lock()
		defer b.mu.Unlock()
		taken, b.wait = b.wait, nil
		return taken
	})
	done = true
	b.last = len(taken)
	for _, t := range taken {
		close(t.done)
	}
	if err != nil {
		return b.leave(j, err)
	}
	return j.err
}

// errAbandoned is the error of jobs whose work panicked.
var errAbandoned = errors.New("the goroutine that did the work for several callers panicked")

// abandon ends the turn of a work that panicked. Its jobs get errAbandoned, so that their
// callers do not wait for ever.
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

// leave removes j from the jobs that wait and returns err. If another caller works on j
// already, leave waits for it and returns the error of j.
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
