package serve

import (
	"context"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/share"
)

// A fresh has a value that is loaded again if a caller needs a newer value. Callers share
// one load. Loads run at most a tenth of the time, however often clients ask for content
// that does not exist.
type fresh[T any] struct {
	load  func(context.Context) (T, error)
	calls share.Calls[struct{}, struct{}]

	mu     sync.Mutex
	value  T
	loaded bool
	began  time.Time     // when the load of value started
	took   time.Duration // how long the load took
}

// loadTime is how long one load may take.
const loadTime = time.Minute

// pace says how long after the start of a load the next load may start: after pace times
// the duration of the load.
const pace = 10

// now returns the value that was loaded last. If no value was loaded yet, it loads one.
func (f *fresh[T]) now(ctx context.Context) (T, error) { return f.since(ctx, time.Time{}) }

// since returns a value whose load started at the time at or later.
func (f *fresh[T]) since(ctx context.Context, at time.Time) (T, error) {
	for {
		f.mu.Lock()
		value, ok := f.value, f.loaded && !f.began.Before(at)
		f.mu.Unlock()
		if ok {
			return value, nil
		}
		// A load that runs already may have started before at. Then another load follows.
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
