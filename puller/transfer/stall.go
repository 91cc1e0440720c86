package transfer

import (
	"context"
	"io"
	"time"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer/internal/fetch"
)

// A stallWatch cancels a context when a call has taken too long, for Sources that do not
// limit that themselves. The zero stallWatch does nothing.
type stallWatch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// watchStall begins to watch a call that is given the returned context.
func watchStall(ctx context.Context, limit time.Duration) (context.Context, stallWatch) {
	if limit <= 0 {
		return ctx, stallWatch{}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := stallWatch{ctx: ctx, cancel: cancel, limit: limit}
	w.timer = time.AfterFunc(limit, func() {
		cancel(fetch.Errorf(content.ErrTimeout, "nothing came for %v", limit))
	})
	return ctx, w
}

// cause returns why the context was cancelled, if err came of that.
func (w stallWatch) cause(err error) error {
	if err == nil || err == io.EOF || w.ctx == nil || w.ctx.Err() == nil {
		return err
	}
	return context.Cause(w.ctx)
}

// end ends the watch of a call that returned err.
func (w stallWatch) end(err error) error {
	if w.ctx == nil {
		return err
	}
	w.timer.Stop()
	err = w.cause(err)
	w.cancel(nil)
	return err
}

// body watches each read of a body from now on.
func (w stallWatch) body(body io.ReadCloser) io.ReadCloser {
	if w.ctx == nil {
		return body
	}
	w.timer.Stop()
	return &watchedBody{body, w}
}

type watchedBody struct {
	io.ReadCloser
	watch stallWatch
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.watch.timer.Reset(b.watch.limit)
	n, err := b.ReadCloser.Read(p)
	b.watch.timer.Stop()
	return n, b.watch.cause(err)
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	_ = b.watch.end(nil)
	return err
}

// Reject implements content.Rejecter.
func (b *watchedBody) Reject() bool {
	r, ok := b.ReadCloser.(content.Rejecter)
	return ok && r.Reject()
}
