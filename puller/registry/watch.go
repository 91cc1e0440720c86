package registry

import (
	"context"
	"time"
)

// A watch cuts a request that brings nothing for a while. It is armed while
// the network is waited for and at rest while the caller works.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// newWatch derives the context of a request. The watch begins armed.
func newWatch(ctx context.Context, limit time.Duration) *watch {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{ctx: ctx, cancel: cancel, limit: limit}
	w.timer = time.AfterFunc(limit, func() { cancel(errStalled) })
	return w
}

func (w *watch) arm()  { w.timer.Reset(w.limit) }
func (w *watch) rest() { w.timer.Stop() }

// end cuts what is still under way and frees the timer.
func (w *watch) end() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}
