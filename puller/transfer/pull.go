package transfer

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/checked"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer/internal/fetch"
)

// Pull asks the registry for the image's manifest and fetches into the Store the blobs
// that are missing there. For an image that is stored, tagged and unchanged it sends one
// request. Equal blobs are fetched once, even if many pulls of the Runtime need them. A
// pull that fails or is cancelled leaves complete blobs, and parts of others, from which
// the next pull goes on.
//
// The error wraps a reason of package content, and the errors that puller.Runtime documents.
func (r *Runtime) Pull(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	c := &call{spec: spec}
	image, err := r.pull(ctx, c)
	if err != nil {
		return puller.Image{}, c.runtimeError(ctx, err)
	}
	c.end()
	return image, nil
}

func (r *Runtime) pull(ctx context.Context, c *call) (puller.Image, error) {
	if err := r.check(c); err != nil {
		return puller.Image{}, err
	}
	if store, ok := r.store.(content.Holder); ok {
		release, err := store.Hold(ctx)
		if err != nil {
			return puller.Image{}, fetch.StoreError("hold what is stored", err)
		}
		defer release()
	}
	m := newMeter(c.spec.Progress)
	t, err := r.find(ctx, c, func(ctx context.Context, t target) (bool, error) { return r.accept(ctx, c, t, m) })
	if err != nil {
		return puller.Image{}, err
	}
	m.begin(t)
	if err := r.storeAndTag(ctx, c, t, m); err != nil {
		return puller.Image{}, err
	}
	image, err := r.image(ctx, c.spec, t)
	image.Public = c.public(t)
	return image, err
}

// tagTries is how often a pull fetches the missing content and tags the image, if content is
// removed between these two steps. A garbage collection at the same time can remove it, and
// several processes may collect without a pause while the disk is full.
const tagTries = 10

// storeAndTag fetches the content of t that the Store does not have, and gives t the call's name.
//
// The image is tagged even if it had the name before. For an index, a Store may list the
// manifests that are stored, of which there may be more now. Only Tag makes sure that the
// name is durable.
func (r *Runtime) storeAndTag(ctx context.Context, c *call, t target, m *meter) error {
	desc := t.top()
	desc.Data = nil
	for try := 1; ; try++ {
		if err := r.fetchAll(ctx, c, append(t.blobs(), t.documents()...), m); err != nil {
			return err
		}
		err := r.store.Tag(ctx, c.spec.Ref, desc)
		if err == nil {
			return nil
		}
		if !absent(err) || try == tagTries {
			return fetch.StoreError("tag", err)
		}
		r.log.Debug("content of the image was removed during its pull, and is fetched again", "image", c.spec.Ref.String(), "error", err)
	}
}

// find asks the registry for the image and returns the first target for its platform that
// accept accepts.
func (r *Runtime) find(ctx context.Context, c *call, accept func(context.Context, target) (bool, error)) (target, error) {
	top, err := r.topDocument(ctx, c)
	if err != nil {
		return target{}, err
	}
	w := walk{
		want:   c.spec.Platform,
		read:   func(ctx context.Context, d ocispec.Descriptor) (document, error) { return r.child(ctx, c, d) },
		accept: accept,
	}
	return w.from(ctx, top)
}

// accept calls Spec.Admit. If only the config says which platform the image is for,
// accept fetches the config and compares.
func (r *Runtime) accept(ctx context.Context, c *call, t target, m *meter) (bool, error) {
	if c.spec.Admit != nil {
		image, err := r.admission(c, t)
		if err != nil {
			return false, err
		}
		if err := c.spec.Admit(ctx, image); err != nil {
			return false, checked.Error(ctx, err)
		}
	}
	asks, ok := t.configDecides(r.requirePlatform)
	if !asks {
		return ok, nil
	}
	config := t.manifest().Config
	if err := checkReadable(config); err != nil {
		return false, err
	}
	if err := r.fetchAll(ctx, c, []ocispec.Descriptor{config}, m); err != nil {
		return false, err
	}
	got, err := r.configPlatform(ctx, config)
	if err != nil {
		return false, err
	}
	return t.serves(got, c.spec.Platform)
}

// admission returns the description of t for a check.
func (r *Runtime) admission(c *call, t target) (content.Admission, error) {
	ref, err := c.spec.Ref.WithDigest(t.top().Digest)
	if err != nil {
		return content.Admission{}, &content.Error{Reason: content.ErrBadDigest, Err: err}
	}
	return content.Admission{
		Ref: c.spec.Ref, Source: r.source,
		Repo: content.Repo{Ref: ref, Cred: c.spec.Credential, Mirrors: c.spec.Mirrors, Confirmation: c.confirmation},
		Top:  t.top(), Descriptor: t.leaf().desc, Manifest: t.leaf().body,
	}, nil
}

// image returns the description of the stored image t.
func (r *Runtime) image(ctx context.Context, spec puller.Spec, t target) (puller.Image, error) {
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
		// The platform is information for the caller here. A config that does not name
		// one is not an error.
		p, err := r.configPlatform(ctx, config)
		if err != nil && content.ReasonOf(err) == content.ErrStore {
			return puller.Image{}, err
		}
		image.Platform = p
	}
	return image, nil
}

// Status returns the image that has spec's name in the Store, if it is stored completely
// for spec's platform. It does not ask the registry. The error wraps fs.ErrNotExist if
// anything is missing.
func (r *Runtime) Status(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	image, err := r.status(ctx, spec)
	if err != nil {
		return puller.Image{}, withEnd(ctx, err)
	}
	return image, nil
}

func (r *Runtime) status(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	t, err := r.storedTarget(ctx, spec)
	if err != nil {
		return puller.Image{}, err
	}
	return r.image(ctx, spec, t)
}

// Inspect describes the image that has spec's name in the Store for a check, as
// puller.Inspector says. It does not ask the registry.
func (r *Runtime) Inspect(ctx context.Context, spec puller.Spec) (content.Admission, error) {
	t, err := r.storedTarget(ctx, spec)
	if err != nil {
		return content.Admission{}, withEnd(ctx, err)
	}
	return r.admission(&call{spec: spec}, t)
}

// storedTarget returns the image that is stored under spec's name, if it is complete. The
// error wraps fs.ErrNotExist if it is not.
func (r *Runtime) storedTarget(ctx context.Context, spec puller.Spec) (target, error) {
	if err := r.check(&call{spec: spec}); err != nil {
		return target{}, err
	}
	desc, err := r.store.Lookup(ctx, spec.Ref)
	if err != nil {
		return target{}, fetch.StoreError("look up the name", err)
	}
	top, err := r.storedDocument(ctx, desc)
	if err != nil {
		return target{}, err
	}
	w := walk{
		want:   spec.Platform,
		read:   r.storedCandidate,
		accept: func(ctx context.Context, t target) (bool, error) { return r.whole(ctx, spec, t) },
	}
	t, err := w.from(ctx, top)
	if noMatch(err) {
		return target{}, fmt.Errorf("not stored for %s: %w (%w)", index.FormatPlatform(spec.Platform), fs.ErrNotExist, err)
	}
	if err != nil {
		return target{}, err
	}
	return t, nil
}

// storedCandidate is storedDocument for an entry of an index. An entry without a platform
// that is not stored is skipped: Pull does not store a manifest whose config names another
// platform.
func (r *Runtime) storedCandidate(ctx context.Context, desc ocispec.Descriptor) (document, error) {
	doc, err := r.storedDocument(ctx, desc)
	if absent(err) && (desc.Platform == nil || desc.Platform.OS == "") {
		err = fmt.Errorf("%w: %w", index.ErrSkip, err)
	}
	return doc, err
}

// whole reports whether t is for spec's platform. The error wraps fs.ErrNotExist if one
// of its blobs is missing.
func (r *Runtime) whole(ctx context.Context, spec puller.Spec, t target) (bool, error) {
	asks, ok := t.configDecides(r.requirePlatform)
	if asks {
		p, err := r.configPlatform(ctx, t.manifest().Config)
		if err != nil {
			return false, err
		}
		ok, _ = t.serves(p, spec.Platform) // an image for another platform is not stored, and not an error
	}
	if !ok {
		return false, nil
	}
	for _, d := range t.blobs() {
		has, err := r.has(ctx, d)
		if err != nil {
			return false, err
		}
		if !has {
			return false, fmt.Errorf("blob %s: %w", d.Digest, fs.ErrNotExist)
		}
	}
	return true, nil
}

// Plan returns what Pull would do. It asks the registry for manifests and fetches no
// blob. If only the config says which platform an image is for, and the config is not
// stored, Plan takes the first candidate. It does not call Spec.Admit.
func (r *Runtime) Plan(ctx context.Context, spec puller.Spec) (puller.Plan, error) {
	c := &call{spec: spec}
	plan, err := r.plan(ctx, c)
	if err != nil {
		return puller.Plan{}, c.runtimeError(ctx, err)
	}
	c.end()
	return plan, nil
}

func (r *Runtime) plan(ctx context.Context, c *call) (puller.Plan, error) {
	if err := r.check(c); err != nil {
		return puller.Plan{}, err
	}
	t, err := r.find(ctx, c, func(ctx context.Context, t target) (bool, error) { return r.likely(ctx, c.spec, t) })
	if err != nil {
		return puller.Plan{}, err
	}
	plan := puller.Plan{Digest: t.top().Digest, Manifest: t.leaf().desc.Digest}
	if idx := t.docs[0].parsed.Index; idx != nil {
		plan.Verdicts = index.Selector{}.Explain(*idx, c.spec.Platform)
	}
	if p := t.choice.Descriptor.Platform; p != nil {
		plan.Platform = *p
	} else if p, err := r.configPlatform(ctx, t.manifest().Config); err == nil {
		plan.Platform = p
	}
	for _, d := range t.blobs() {
		has, err := r.has(ctx, d)
		if err != nil {
			return puller.Plan{}, err
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
	asks, ok := t.configDecides(r.requirePlatform)
	if !asks {
		return ok, nil
	}
	if p, err := r.configPlatform(ctx, t.manifest().Config); err == nil {
		return t.serves(p, spec.Platform)
	}
	return true, nil
}

// Resolve asks the registry which digest spec's name has now, in one request: a HEAD, if
// the Source is a content.Resolver as a registry.Client is. A digest from a HEAD is not
// verified: the bytes are verified when they are pulled by that digest. If the Source has
// to send a GET, Resolve verifies and parses the manifest or index as Pull does. The
// answer does not depend on the platform, because Resolve chooses nothing from an index.
// Resolve does not use the Store and does not call Spec.Admit.
//
// The error wraps a reason of package content, and the errors that puller.Runtime documents.
func (r *Runtime) Resolve(ctx context.Context, spec puller.Spec) (digest.Digest, error) {
	c := &call{spec: spec}
	found, err := r.resolve(ctx, c)
	if err != nil {
		return "", c.runtimeError(ctx, err)
	}
	return found, nil
}

func (r *Runtime) resolve(ctx context.Context, c *call) (digest.Digest, error) {
	if err := c.checkRef(); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if source, ok := r.source.(content.Resolver); ok {
		desc, err := r.askDigest(ctx, c, source)
		if err == nil {
			return desc.Digest, nil
		}
		if !headRefused(err) || !c.isLast() {
			return "", err
		}
	}
	doc, err := r.askManifest(ctx, c, c.repo(), "")
	if err != nil {
		return "", err
	}
	if err := c.checkPinned(doc.Desc); err != nil {
		return "", err
	}
	if _, err := verifyDocument(doc.Desc, doc); err != nil {
		return "", err
	}
	return doc.Desc.Digest, nil
}
