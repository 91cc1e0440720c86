package transfer

import (
	"context"
	"fmt"
	"math"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
)

// checkSpace finds, before the first byte, that the Store has not the room for
// all that is wanted now, by all pulls. r.flights.mu is held.
func (r *Runtime) checkSpace(ctx context.Context) error {
	store, ok := r.store.(content.Spacer)
	if !ok {
		return nil
	}
	free, err := store.Free(ctx)
	if err != nil {
		r.log.Debug("the free space is not known", "error", err)
		return nil
	}
	need := r.flights.outstanding(func(ocispec.Descriptor) int64 { return 0 })
	if need <= free {
		return nil
	}
	// What earlier tries kept takes its room already.
	need = r.flights.outstanding(func(desc ocispec.Descriptor) int64 {
		kept, err := store.Kept(ctx, desc)
		if err != nil {
			r.log.Debug("a partial is not known", "digest", desc.Digest, "error", err)
		}
		return kept
	})
	if need <= free {
		return nil
	}
	return &content.Error{Kind: content.ErrStore, Err: fmt.Errorf("%d bytes are missing and %d are free: %w", need, free, content.ErrNoSpace)}
}

// outstanding is how many bytes all flights will still write, at most
// math.MaxInt64. kept is asked for those that have not begun. fs.mu is held.
func (fs *flights) outstanding(kept func(ocispec.Descriptor) int64) int64 {
	var n int64
	for _, f := range fs.byKey {
		there := f.got.Load() + f.resumed.Load()
		if !f.begun.Load() {
			there = kept(f.desc)
		}
		if n += max(0, f.desc.Size-there); n < 0 {
			return math.MaxInt64
		}
	}
	return n
}
