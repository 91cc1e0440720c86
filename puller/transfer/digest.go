package transfer

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
)

var _ puller.Resolver = (*Runtime)(nil)

// Resolve asks the registry which digest spec's name has now, in one request. It
// needs no Store and looks into none. The manifest, or index, is verified and
// read as Pull would, but nothing in it is chosen: the answer does not depend on
// the platform. Config.Admit is not asked.
//
// The error holds the kind of package content, and what puller.Runtime says of it.
func (r *Runtime) Resolve(ctx context.Context, spec puller.Spec) (digest.Digest, error) {
	found, err := r.resolve(ctx, spec)
	if err != nil {
		return "", seam(r.masked(ended(ctx, err), spec.Credential))
	}
	return found, nil
}

func (r *Runtime) resolve(ctx context.Context, spec puller.Spec) (digest.Digest, error) {
	if spec.Ref.IsZero() {
		return "", &content.Error{Kind: content.ErrBadReference, Err: errors.New("the reference is empty")}
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	desc, body, err := r.askManifest(ctx, origin{spec.Ref, spec.Credential}, "")
	if err != nil {
		return "", err
	}
	if pinned := spec.Ref.Digest(); pinned != "" && desc.Digest != pinned {
		return "", failf(content.ErrDigestMismatch, "the source gave manifest %s for %s", desc.Digest, pinned)
	}
	if _, err := r.believe(desc, desc, body); err != nil {
		return "", err
	}
	return desc.Digest, nil
}
