package transfer

import (
	"context"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// bring returns when all of descs are in the Store. It waits for flights of
// other pulls, or begins its own. When it returns, none of them goes on for its sake.
func (r *Runtime) bring(ctx context.Context, from origin, descs []ocispec.Descriptor, k *keep, m *meter) error {
	missing, err := r.missing(ctx, descs, m)
	if err != nil || len(missing) == 0 {
		return err
	}
	b := &batch{from: from, finished: make(chan *flight, len(missing)), waiting: make(map[flightKey]*flight, len(missing))}
	defer r.flights.leave(b)
	if err := r.launch(ctx, b, missing, m); err != nil {
		return err
	}
	tick, stop := m.ticks()
	defer stop()
	for len(b.waiting) > 0 {
		select {
		case f := <-b.finished:
			delete(b.waiting, f.key)
			f.panicked.Raise()
			switch {
			case f.err == nil:
				m.stored(f)
				k.landed(f)
			case b.takes(f):
				return f.err
			default:
				if err := r.launch(ctx, b, []ocispec.Descriptor{f.desc}, m); err != nil {
					return err
				}
			}
		case <-tick:
			m.poll()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// missing asks the Store which of descs it has, and sorts the others by size:
// the longest one must not be the last to begin. Data in them is the blob.
func (r *Runtime) missing(ctx context.Context, descs []ocispec.Descriptor, m *meter) ([]ocispec.Descriptor, error) {
	var missing []ocispec.Descriptor
	for _, d := range descs {
		if err := checkDescriptor(d); err != nil {
			return nil, err
		}
		has, err := r.store.Has(ctx, d)
		if err != nil {
			return nil, storeError("look for "+string(d.Digest), err)
		}
		if has {
			m.present(d)
			continue
		}
		if int64(len(d.Data)) != d.Size || !verify.Bytes(d.Digest, d.Data) {
			d.Data = nil
		}
		missing = append(missing, d)
	}
	slices.SortStableFunc(missing, func(a, b ocispec.Descriptor) int { return int(min(1, max(-1, b.Size-a.Size))) })
	return missing, nil
}

// launch makes b wait for the flights of descs, if there is room for all of them.
func (r *Runtime) launch(ctx context.Context, b *batch, descs []ocispec.Descriptor, m *meter) error {
	fs := &r.flights
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, d := range descs {
		m.follow(fs.want(ctx, b, d))
	}
	if err := r.checkSpace(ctx); err != nil {
		return err // b leaves the flights, and ends those that only it began
	}
	fs.start()
	return nil
}

// takes reports whether f's failure is b's as well: asked by b itself, the
// registry would have said the same, or the Store is to blame.
func (b *batch) takes(f *flight) bool {
	return f.from.same(b.from) || content.KindOf(f.err) == content.ErrStore
}
