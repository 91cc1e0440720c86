package puller

import (
	"cmp"
	"context"
	"time"

	"github.com/pullkit/pullkit/backoff"
)

// PullWait pulls as Pull does, and when that fails waits for the end of the
// back-off's window, or for as long as the registry asked, and tries again: until
// the image is there, ctx ends, or the failure is one that waiting cannot mend:
// InvalidImageName, ErrImageNeverPull, ImageInspectError, or no reason at all.
//
// An image that does not exist, or that no credential opens, is waited for: it can
// still be pushed, and a Keyring can come to know another credential. Give ctx an
// end, or use Pull, where that is not wanted. When ctx ends the error wraps its
// cause and the last failure.
func (p *Puller) PullWait(ctx context.Context, req Request) (Image, error) {
	h, err := p.pullWait(ctx, req, sleep)
	return h.image, err
}

// pullWait is PullWait with a way to sleep.
func (p *Puller) pullWait(ctx context.Context, req Request, sleep func(context.Context, time.Duration) error) (had, error) {
	t, err := p.newTask(req)
	if err != nil {
		p.emitUnusable(t, err)
		return had{}, err
	}
	var last *Error
	for {
		h, err := p.ensure(ctx, t)
		switch {
		case err == nil:
			return h, nil
		case ctx.Err() != nil:
			return had{}, endedAfter(t.ended(ctx), cmp.Or(err.tried(), last))
		case !err.waits():
			return had{}, err
		}
		last = err
		if err.Reason != ErrImagePullBackOff { // that one has been told
			p.emitBackOff(t, err)
		}
		if sleep(ctx, p.pause(err)) != nil {
			return had{}, endedAfter(t.ended(ctx), last)
		}
		t.started = time.Now()
	}
}

// waits reports whether the failure may go away by itself.
func (e *Error) waits() bool {
	switch e.Reason {
	case ErrImagePull, ErrImagePullBackOff, ErrRegistryUnavailable, ErrSignatureValidation:
		return true
	}
	return false
}

// tried is e if the registry was asked, or would have been.
func (e *Error) tried() *Error {
	if len(e.Attempts) > 0 || e.Previous != nil {
		return e
	}
	return nil
}

// pause is how long to wait after err.
func (p *Puller) pause(err *Error) time.Duration {
	switch {
	case err.RetryAfter > 0:
		return err.RetryAfter
	case p.config.Backoff.Initial > 0:
		return p.config.Backoff.Initial
	}
	return backoff.DefaultInitial
}

// endedAfter adds to the error of a context's end what was waited for.
func endedAfter(err, last *Error) *Error {
	if last == nil {
		return err
	}
	if last.Previous != nil {
		last = last.Previous
	}
	return &Error{Reason: err.Reason, Image: err.Image, Err: err.Err, Previous: last}
}

// sleep is the one place where a Puller sleeps. The error is the cause of ctx's end.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
