package serve

import (
	"context"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/share"
)

// A fresh has a value that is loaded again when a caller needs a newer one. Callers share
// one load. Loads take at most a tenth of the time, however often clients ask for what is
// not there.
type fresh[T any] struct {
	load  func(context.Context) (T, error)
	calls share.Calls[struct{}, struct{}]

	mu     sync.Mutex
	value  T
	loaded bool
	began  time.Time     // when the load of value began
	took   time.Duration // how long it took
}

// loadTime is how long one load may take.
const loadTime = time.Minute

// pace is how many times the duration of a load passes between the beginnings of two loads.
const pace = 10

// now returns the value that was loaded last, and loads it if there is none.
func (f *fresh[T]) now(ctx context.Context) (T, error) { return f.since(ctx, time.Time{}) }

// since returns a value whose load began at that time or later.
func (f *fresh[T]) since(ctx context.Context, at time.Time) (T, error) {
	for {
		f.mu.Lock()
		value, ok := f.value, f.loaded && !f.began.Before(at)
		f.mu.Unlock()
		if ok {
			return value, nil
		}
		// A load that is under way may have begun too early. Then another one follows.
		if _, err := f.calls.Do(ctx, struct{}{}, f.reload); err != nil {
			var none T
			return none, err
		}
	}
}

func (f *fresh[T]) reload(ctx context.Context) (none struct{}, err error) {
	f.mu.Lock()
	wait := f.took
	if f.loaded {
		wait = time.Until(f.began.Add(pace * f.took))
	}
	f.mu.Unlock()
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	began := time.Now()
	value, err := f.load(ctx)
	if err != nil {
		return none, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.value, f.loaded, f.began, f.took = value, true, began, time.Since(began)
	return none, nil
}
