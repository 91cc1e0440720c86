package transfer

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
)

var _ puller.Resolver = (*Runtime)(nil)

// Resolve asks the registry which digest spec's name has now, in one request: a HEAD,
// if the Source is a content.Resolver as a registry.Client is. Then the digest is the
// registry's word, and what it names is verified when it is pulled by that digest. Where
// the Source has to ask by GET, the manifest, or index, is verified and read as Pull
// would. Nothing in it is chosen: the answer does not depend on the platform. Resolve
// needs no Store and looks into none. Config.Admit is not asked.
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
	o := origin{spec.Ref, spec.Credential}
	if source, ok := r.source.(content.Resolver); ok {
		desc, err := r.askDigest(ctx, o, source)
		if !headRefused(err) || spec.Last == nil || !spec.Last() {
			return desc.Digest, err
		}
	}
	desc, body, err := r.askManifest(ctx, o, "")
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

// askDigest is content.Resolver.Resolve; it counts as a manifest that is asked for.
func (r *Runtime) askDigest(ctx context.Context, o origin, source content.Resolver) (ocispec.Descriptor, error) {
	var desc ocispec.Descriptor
	err := r.asking(ctx, func(ctx context.Context) (err error) {
		desc, err = source.Resolve(ctx, o.ref, o.cred)
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := checkDescriptor(desc); err != nil {
		return ocispec.Descriptor{}, err
	}
	if pinned := o.ref.Digest(); pinned != "" && desc.Digest != pinned {
		return ocispec.Descriptor{}, failf(content.ErrDigestMismatch, "the source gave manifest %s for %s", desc.Digest, pinned)
	}
	return desc, nil
}
