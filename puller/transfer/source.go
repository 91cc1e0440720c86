package transfer

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
)

// maxBodies is how many bodies of one try are told that it went wrong.
const maxBodies = 16

// open asks the Source for a part of the blob. alone says that the blob's first
// bytes instead, of a server that ignores ranges, are of no use.
func (t *try) open(ctx context.Context, s spans.Span, alone bool) (_ io.ReadCloser, _ int64, err error) {
	defer t.guard(&err)
	n := s.End - s.Off
	if s.End == t.desc.Size {
		n = -1
	}
	ctx, watch := watchStall(ctx, t.rt.stall)
	body, start, err := t.rt.source.Blob(ctx, t.f.from.ref, t.f.from.cred, t.desc, s.Off, n)
	if err != nil {
		return nil, 0, watch.end(err)
	}
	if start != s.Off && (start != 0 || alone) {
		_ = body.Close()
		err := error(errNoRanges)
		if start != 0 {
			err = failf(content.ErrRange, "asked for byte %d, got byte %d", s.Off, start)
		}
		return nil, 0, watch.end(err)
	}
	t.note(body)
	return &guardedBody{watch.body(body), t}, start, nil
}

// A guardedBody makes errors of the panics of a Source's body.
type guardedBody struct {
	io.ReadCloser
	t *try
}

func (b *guardedBody) Read(p []byte) (n int, err error) {
	defer b.t.guard(&err)
	return b.ReadCloser.Read(p)
}

func (b *guardedBody) Close() (err error) {
	defer b.t.guard(&err)
	return b.ReadCloser.Close()
}

// note remembers a body, so that it can be rejected.
func (t *try) note(body io.ReadCloser) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers++
	if b, ok := body.(content.Rejecter); ok {
		if len(t.bodies) == maxBodies {
			t.bodies = append(t.bodies[:1], t.bodies[2:]...)
		}
		t.bodies = append(t.bodies, b)
	}
}

// askManifest is Source.Manifest.
func (r *Runtime) askManifest(ctx context.Context, o origin, have digest.Digest) (desc ocispec.Descriptor, body []byte, err error) {
	err = r.asking(ctx, func(ctx context.Context) (err error) {
		desc, body, err = r.source.Manifest(ctx, o.ref, o.cred, have)
		return err
	})
	return desc, body, err
}

// asking calls ask, which asks the Source for a manifest. Not more than the limit of
// such calls run at once, and none longer than Config.Stall.
func (r *Runtime) asking(ctx context.Context, ask func(context.Context) error) error {
	select {
	case r.documents <- struct{}{}:
		defer func() { <-r.documents }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, watch := watchStall(ctx, r.stall)
	return watch.end(ask(ctx))
}

// A stallWatch cancels a context when a call has taken too long, for Sources
// that do not look after that themselves. The zero stallWatch does nothing.
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
		cancel(failf(content.ErrTimeout, "nothing came for %v", limit))
	})
	return ctx, w
}

// cause turns what a call returned because it was cancelled into the reason for that.
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
