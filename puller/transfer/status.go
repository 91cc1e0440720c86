package transfer

import (
	"context"
	"fmt"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
)

// Status returns the image that spec's name stands for in the Store, if all of
// it is there for spec's platform. It asks no registry. The error wraps
// fs.ErrNotExist if anything is missing.
func (r *Runtime) Status(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	image, err := r.status(ctx, spec)
	if err != nil {
		return puller.Image{}, ended(ctx, err)
	}
	return image, nil
}

func (r *Runtime) status(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	if err := r.check(spec); err != nil {
		return puller.Image{}, err
	}
	desc, err := r.store.Lookup(ctx, spec.Ref)
	if err != nil {
		return puller.Image{}, storeError("look up the name", err)
	}
	top, err := r.storedDocument(ctx, desc)
	if err != nil {
		return puller.Image{}, err
	}
	w := walk{
		want:   spec.Platform,
		read:   r.storedCandidate,
		accept: func(ctx context.Context, t target) (bool, error) { return r.whole(ctx, spec, t) },
	}
	t, err := w.from(ctx, top)
	if unfit(err) {
		return puller.Image{}, fmt.Errorf("not stored for %s: %w (%w)", index.FormatPlatform(spec.Platform), fs.ErrNotExist, err)
	}
	if err != nil {
		return puller.Image{}, err
	}
	return r.image(ctx, spec, t, keep{})
}

// storedCandidate is storedDocument, for an entry of an index. Of those without a
// platform Pull stores no manifest whose config it found to be another platform's.
func (r *Runtime) storedCandidate(ctx context.Context, desc ocispec.Descriptor) (document, error) {
	doc, err := r.storedDocument(ctx, desc)
	if absent(err) && (desc.Platform == nil || desc.Platform.OS == "") {
		err = fmt.Errorf("%w: %w", index.ErrSkip, err)
	}
	return doc, err
}

// whole reports whether a manifest is for the platform; the error wraps
// fs.ErrNotExist if one of its blobs is missing.
func (r *Runtime) whole(ctx context.Context, spec puller.Spec, t target) (bool, error) {
	asks, ok := r.configDecides(t)
	if asks {
		p, err := r.configPlatform(ctx, t.manifest().Config, keep{})
		if err != nil {
			return false, err
		}
		ok, _ = t.fits(p, spec.Platform) // another platform's is not stored, and no error
	}
	if !ok {
		return false, nil
	}
	for _, d := range t.blobs() {
		has, err := r.store.Has(ctx, d)
		if err != nil {
			return false, storeError("look for "+string(d.Digest), err)
		}
		if !has {
			return false, fmt.Errorf("blob %s: %w", d.Digest, fs.ErrNotExist)
		}
	}
	return true, nil
}

// Plan says what Pull would do. It asks the registry for manifests and fetches
// no blob; where only the config of an image could tell the platform, and is
// not stored, the first candidate is taken. Config.Admit is not asked.
func (r *Runtime) Plan(ctx context.Context, spec puller.Spec) (puller.Plan, error) {
	plan, err := r.plan(ctx, spec)
	if err != nil {
		return puller.Plan{}, seam(r.masked(ended(ctx, err), spec.Credential))
	}
	return plan, nil
}

func (r *Runtime) plan(ctx context.Context, spec puller.Spec) (puller.Plan, error) {
	if err := r.check(spec); err != nil {
		return puller.Plan{}, err
	}
	o := origin{spec.Ref, spec.Credential}
	top, err := r.topDocument(ctx, o, spec.Last)
	if err != nil {
		return puller.Plan{}, err
	}
	w := walk{
		want:   spec.Platform,
		read:   func(ctx context.Context, d ocispec.Descriptor) (document, error) { return r.child(ctx, o, d) },
		accept: func(ctx context.Context, t target) (bool, error) { return r.likely(ctx, spec, t) },
	}
	t, err := w.from(ctx, top)
	if err != nil {
		return puller.Plan{}, err
	}
	plan := puller.Plan{Digest: t.top().Digest, Manifest: t.leaf().desc.Digest}
	if idx := top.parsed.Index; idx != nil {
		plan.Verdicts = index.Selector{}.Explain(*idx, spec.Platform)
	}
	if p := t.choice.Descriptor.Platform; p != nil {
		plan.Platform = *p
	} else if p, err := r.configPlatform(ctx, t.manifest().Config, keep{}); err == nil {
		plan.Platform = p
	}
	for _, d := range t.blobs() {
		has, err := r.store.Has(ctx, d)
		if err != nil {
			return puller.Plan{}, storeError("look for "+string(d.Digest), err)
		}
		if has {
			plan.Present = append(plan.Present, d)
		} else {
			plan.Fetch = append(plan.Fetch, d)
		}
	}
	return plan, nil
}

// likely accepts a manifest unless a stored config says that it is for another platform.
func (r *Runtime) likely(ctx context.Context, spec puller.Spec, t target) (bool, error) {
	asks, ok := r.configDecides(t)
	if !asks {
		return ok, nil
	}
	if p, err := r.configPlatform(ctx, t.manifest().Config, keep{}); err == nil {
		return t.fits(p, spec.Platform)
	}
	return true, nil
}

// documents are the descriptors of manifest and indexes with their bytes, as
// blobs that need no request.
func (t target) documents() []ocispec.Descriptor {
	var descs []ocispec.Descriptor
	for _, d := range t.docs {
		desc := d.desc
		desc.Data = d.body
		descs = append(descs, desc)
	}
	return descs
}
