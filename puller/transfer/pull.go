package transfer

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
)

// Pull asks the registry what the image is now and brings what of it is missing
// into the Store: one request for an image that is there, tagged and unchanged.
// Equal blobs are fetched once, however many pulls of the process want them. A
// pull that fails, or is cancelled, leaves blobs that are whole and partials of
// the others, from which the next one goes on.
//
// The error holds the kind of package content, and what puller.Runtime says of it.
func (r *Runtime) Pull(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	image, err := r.pull(ctx, spec)
	if err != nil {
		return puller.Image{}, seam(r.masked(ended(ctx, err), spec.Credential))
	}
	return image, nil
}

func (r *Runtime) pull(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	if err := r.check(spec); err != nil {
		return puller.Image{}, err
	}
	o := origin{spec.Ref, spec.Credential}
	top, err := r.topDocument(ctx, o, spec.Last)
	if err != nil {
		return puller.Image{}, err
	}
	m := newMeter(spec.Progress)
	var k keep
	w := walk{
		want:   spec.Platform,
		read:   func(ctx context.Context, d ocispec.Descriptor) (document, error) { return r.child(ctx, o, d) },
		accept: func(ctx context.Context, t target) (bool, error) { return r.accept(ctx, spec, t, &k, m) },
	}
	t, err := w.from(ctx, top)
	if err != nil {
		return puller.Image{}, err
	}
	m.begin(t.blobs())
	k.only(t.manifest().Config.Digest)
	if err := r.bring(ctx, o, append(t.blobs(), t.documents()...), &k, m); err != nil {
		return puller.Image{}, err
	}
	if err := r.tag(ctx, spec, t); err != nil {
		return puller.Image{}, err
	}
	return r.image(ctx, spec, t, k)
}

// accept asks the hook for the image, and compares the config where nothing
// else says which platform it is for.
func (r *Runtime) accept(ctx context.Context, spec puller.Spec, t target, k *keep, m *meter) (bool, error) {
	if r.admit != nil {
		ref, err := spec.Ref.WithDigest(t.top().Digest)
		if err != nil {
			return false, &content.Error{Kind: content.ErrBadDigest, Err: err}
		}
		if err := r.admit(ctx, ref, t.leaf().desc, t.leaf().body); err != nil {
			if ctx.Err() != nil { // the hook gave up because the caller did
				return false, context.Cause(ctx)
			}
			return false, &content.Error{Kind: content.ErrRefused, Err: err}
		}
	}
	asks, ok := r.configDecides(t)
	if !asks {
		return ok, nil
	}
	config := t.manifest().Config
	if err := checkReadable(config); err != nil {
		return false, err
	}
	k.only(config.Digest)
	if err := r.bring(ctx, origin{spec.Ref, spec.Credential}, []ocispec.Descriptor{config}, k, m); err != nil {
		return false, err
	}
	got, err := r.configPlatform(ctx, config, *k)
	if err != nil {
		return false, err
	}
	return t.fits(got, spec.Platform)
}

// configDecides says whether only the config can tell if t will do, and if it
// need not be asked, whether t will.
func (r *Runtime) configDecides(t target) (asks, ok bool) {
	alone := len(t.docs) == 1
	if !t.choice.CheckConfig && !(alone && r.strict) {
		return false, true
	}
	if !mediatype.IsConfig(t.manifest().Config.MediaType) {
		// An artifact is for all platforms; but beside images for some, it is
		// something about them, such as an SBOM, and no image for the others.
		return false, alone || !t.besideImages()
	}
	return true, false
}

// fits reports whether t will do, whose config names platform got. Outside an
// index that is an error if not; signatures and the like come there with an
// image config that names none.
func (t target) fits(got, want ocispec.Platform) (bool, error) {
	alone := len(t.docs) == 1
	if serves(got, want) || alone && got.OS == "" && got.Architecture == "" {
		return true, nil
	}
	if alone {
		return false, failf(content.ErrNoPlatform, "the image is for %.80q, not for %s", index.FormatPlatform(got), index.FormatPlatform(want))
	}
	return false, nil
}

// serves reports whether an image for platform got can run on want.
func serves(got, want ocispec.Platform) bool {
	_, ok := index.Selector{}.Match(got, want)
	return ok
}

// tag makes the name stand for the image, also if it does already: a Store may
// show an index by what is stored of it, which may be more now, and only Tag
// says that the name is durable.
func (r *Runtime) tag(ctx context.Context, spec puller.Spec, t target) error {
	desc := t.top()
	desc.Data = nil
	if err := r.store.Tag(ctx, spec.Ref, desc); err != nil {
		return storeError("tag", err)
	}
	return nil
}

// image describes what is stored.
func (r *Runtime) image(ctx context.Context, spec puller.Spec, t target, k keep) (puller.Image, error) {
	leaf := t.leaf().desc
	image := puller.Image{
		Ref: spec.Ref, ID: string(leaf.Digest),
		Digest: t.top().Digest, Manifest: leaf.Digest,
		Size: t.size(),
	}
	config := t.manifest().Config
	switch {
	case t.choice.Descriptor.Platform != nil:
		image.Platform = *t.choice.Descriptor.Platform
	case mediatype.IsConfig(config.MediaType) && config.Size <= index.MaxSize:
		// What a config says of the platform is for people here: one that cannot
		// be read spoils nothing.
		p, err := r.configPlatform(ctx, config, k)
		if err != nil && content.KindOf(err) == content.ErrStore {
			return puller.Image{}, err
		}
		image.Platform = p
	}
	return image, nil
}

// ended makes an error of a cancelled call say so.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}
