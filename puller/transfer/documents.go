package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer/internal/fetch"
)

// A document is a manifest or index with its bytes.
type document struct {
	desc   ocispec.Descriptor
	body   []byte
	parsed *index.Document
}

func parse(desc ocispec.Descriptor, body []byte) (document, error) {
	parsed, err := index.Parse(desc.MediaType, body)
	if err != nil {
		return document{}, documentError(err)
	}
	desc.MediaType = parsed.MediaType
	return document{desc, body, parsed}, nil
}

// documentError turns an error of package index into one with the content.Reason of the
// same name.
func documentError(err error) error {
	var invalid *index.InvalidError
	if errors.As(err, &invalid) {
		return &content.Error{Reason: content.Reason(invalid.Reason), Err: errors.New(invalid.Detail)}
	}
	if errors.Is(err, index.ErrNoMatch) || errors.Is(err, index.ErrPlatform) {
		return &content.Error{Reason: content.ErrNoPlatform, Err: err}
	}
	return &content.Error{Reason: content.ErrBadManifest, Err: err}
}

// stored reads a document, or a config, from the Store. The error wraps fs.ErrNotExist
// if it is not there.
func (r *Runtime) stored(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if err := checkReadable(desc); err != nil {
		return nil, err
	}
	f, err := r.store.Open(ctx, desc)
	if err != nil {
		return nil, fetch.StoreError("open "+string(desc.Digest), err)
	}
	defer f.Close()
	body := make([]byte, desc.Size)
	_, err = io.ReadFull(f, body)
	if err != nil {
		return nil, fetch.StoreError("read "+string(desc.Digest), err)
	}
	if !verify.Bytes(desc.Digest, body) {
		return nil, fetch.Errorf(content.ErrStore, "stored content is not %s", desc.Digest)
	}
	return body, nil
}

// has reports whether the Store has a document or blob.
func (r *Runtime) has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	has, err := r.store.Has(ctx, desc)
	if err != nil {
		return false, fetch.StoreError("look for "+string(desc.Digest), err)
	}
	return has, nil
}

// checkReadable returns an error if what desc describes must not be read into memory.
func checkReadable(desc ocispec.Descriptor) error {
	if err := fetch.CheckDescriptor(desc); err != nil {
		return err
	}
	if desc.Size > index.MaxSize {
		return fetch.Errorf(content.ErrTooLarge, "%s has %d bytes, at most %d are read", desc.Digest, desc.Size, index.MaxSize)
	}
	return nil
}

// storedDocument reads and parses a document from the Store.
func (r *Runtime) storedDocument(ctx context.Context, desc ocispec.Descriptor) (document, error) {
	body, err := r.stored(ctx, desc)
	if err != nil {
		return document{}, err
	}
	return parse(desc, body)
}

// configPlatform returns the platform that a config in the Store names.
func (r *Runtime) configPlatform(ctx context.Context, config ocispec.Descriptor) (ocispec.Platform, error) {
	body, err := r.stored(ctx, config)
	if err != nil {
		return ocispec.Platform{}, err
	}
	p, err := index.ConfigPlatform(body)
	if err != nil {
		return ocispec.Platform{}, documentError(fmt.Errorf("config %s: %w", config.Digest, err))
	}
	return p, nil
}

// topDocument returns the document that the image's name points to. It always asks the
// registry. If the registry's digest is the digest that the Store has for the name, it
// uses the stored bytes. After a HEAD that was refused it sends another request, which
// brings the reason, only if no other credential follows.
func (r *Runtime) topDocument(ctx context.Context, c *call) (document, error) {
	have, err := r.store.Lookup(ctx, c.spec.Ref)
	if err != nil && !absent(err) {
		return document{}, fetch.StoreError("look up the name", err)
	}
	var stored []byte
	if err == nil {
		// A document that cannot be read is fetched again.
		if stored, err = r.stored(ctx, have); err != nil {
			have.Digest = ""
		}
	}
	if ctx.Err() != nil {
		return document{}, context.Cause(ctx)
	}
	got, err := r.askManifest(ctx, c, c.repo(), have.Digest)
	if headRefused(err) && c.isLast() {
		got, err = r.askManifest(ctx, c, c.repo(), "")
	}
	if err != nil {
		return document{}, err
	}
	came := true
	if got.Body == nil {
		if stored == nil || got.Desc.Digest != have.Digest {
			return document{}, fetch.Errorf(content.ErrBadManifest, "the source gave no manifest for %s", got.Desc.Digest)
		}
		have.MediaType = got.Desc.MediaType
		got.Desc, got.Body = have, stored
		came = false
	}
	if err := c.checkPinned(got.Desc); err != nil {
		return document{}, err
	}
	c.opening, c.confirmation = got.Opening, got.Confirmation
	c.named = c.spec.Credential.Anonymous() && got.Provenance.Registry && got.Provenance.Anonymous
	return c.verified(got.Desc, got, came)
}

func headRefused(err error) bool {
	var e *content.Error
	return errors.As(err, &e) && e.HeadRefused
}

// child returns a document that an index names: from the Store, from the data in the
// descriptor, or from the registry.
func (r *Runtime) child(ctx context.Context, c *call, desc ocispec.Descriptor) (document, error) {
	has, err := r.has(ctx, desc)
	if err != nil {
		return document{}, err
	}
	if has {
		if doc, err := r.storedDocument(ctx, desc); err == nil || content.ReasonOf(err) != content.ErrStore {
			return doc, err
		}
	}
	if int64(len(desc.Data)) == desc.Size && verify.Bytes(desc.Digest, desc.Data) {
		return parse(desc, desc.Data)
	}
	repo := c.repo()
	repo.Ref, err = repo.Ref.WithoutTag().WithDigest(desc.Digest)
	if err != nil {
		return document{}, &content.Error{Reason: content.ErrBadDigest, Err: err}
	}
	got, err := r.askManifest(ctx, c, repo, "")
	if err != nil {
		return document{}, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return c.verified(desc, got, true)
}

// verifyDocument checks a Source's answer against the descriptor that named the document.
// The bytes are verified here because the Source can be any implementation, and the rest
// of the pull depends on them.
func verifyDocument(want ocispec.Descriptor, got content.Document) (document, error) {
	if err := fetch.CheckDescriptor(want); err != nil {
		return document{}, err
	}
	if int64(len(got.Body)) != want.Size {
		return document{}, fetch.Errorf(content.ErrSizeMismatch, "manifest %s has %d bytes, its descriptor says %d", want.Digest, len(got.Body), want.Size)
	}
	if !verify.Bytes(want.Digest, got.Body) {
		return document{}, fetch.Errorf(content.ErrDigestMismatch, "manifest is not %s", want.Digest)
	}
	doc, err := parse(want, got.Body)
	if err != nil {
		return document{}, err
	}
	if got.Desc.MediaType != "" && want.MediaType != got.Desc.MediaType {
		// The server's media type and the index's must lead to the same reading.
		if _, err := index.Parse(got.Desc.MediaType, got.Body); err != nil {
			return document{}, documentError(err)
		}
	}
	return doc, nil
}

// askManifest is Source.Manifest.
func (r *Runtime) askManifest(ctx context.Context, c *call, repo content.Repo, have digest.Digest) (doc content.Document, err error) {
	err = r.ask(ctx, func() (err error) {
		doc, err = r.source.Manifest(ctx, repo, have)
		return err
	})
	if err == nil && doc.Mask != nil {
		c.masks = append(c.masks, doc.Mask)
	}
	return doc, err
}

// askDigest is content.Resolver.Resolve.
func (r *Runtime) askDigest(ctx context.Context, c *call, source content.Resolver) (desc ocispec.Descriptor, err error) {
	err = r.ask(ctx, func() (err error) {
		desc, err = source.Resolve(ctx, c.repo())
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := fetch.CheckDescriptor(desc); err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, c.checkPinned(desc)
}

// ask calls request, which asks the Source about a manifest. Only Config.MaxBlobs of these
// calls run at the same time.
func (r *Runtime) ask(ctx context.Context, request func() error) error {
	select {
	case r.documents <- struct{}{}:
		defer func() { <-r.documents }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return request()
}

// A target is the image that a name points to for a platform.
type target struct {
	docs   []document   // from what the name points to down to the platform's manifest
	choice index.Choice // the entry that led to the manifest; zero without an index
}

func (t target) top() ocispec.Descriptor     { return t.docs[0].desc }
func (t target) leaf() document              { return t.docs[len(t.docs)-1] }
func (t target) manifest() *ocispec.Manifest { return t.leaf().parsed.Manifest }
func (t target) inIndex() bool               { return len(t.docs) > 1 }

// indexHasImages reports whether the index that led to the manifest has entries with a
// platform.
func (t target) indexHasImages() bool {
	for _, entry := range t.docs[len(t.docs)-2].parsed.Index.Manifests {
		if entry.Platform != nil && entry.Platform.OS != "" {
			return true
		}
	}
	return false
}

// blobs returns the config and the layers, each digest once.
func (t target) blobs() []ocispec.Descriptor {
	m := t.manifest()
	blobs := make([]ocispec.Descriptor, 0, 1+len(m.Layers))
	seen := make(map[digest.Digest]bool, 1+len(m.Layers))
	add := func(d ocispec.Descriptor) {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			blobs = append(blobs, d)
		}
	}
	add(m.Config)
	for _, d := range m.Layers {
		add(d)
	}
	return blobs
}

// documents returns the descriptors of the manifest and the indexes, with their bytes, as
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

// size returns how many bytes the documents and blobs take in the Store. It is negative
// if that is more than an int64 holds.
func (t target) size() int64 {
	var n int64
	for _, d := range t.docs {
		n += d.desc.Size
	}
	for _, d := range t.blobs() {
		if n += d.Size; n < 0 {
			return n
		}
	}
	return n
}

// checkSize returns an error for sizes that cannot be true: one digest with two sizes, or
// a sum that is more than an int64 holds.
func (t target) checkSize() error {
	m := t.manifest()
	sizes := map[digest.Digest]int64{m.Config.Digest: m.Config.Size}
	for _, d := range m.Layers {
		if size, ok := sizes[d.Digest]; ok && size != d.Size {
			return fetch.Errorf(content.ErrSizeMismatch, "manifest %s says that %s has %d bytes, and %d", t.leaf().desc.Digest, d.Digest, size, d.Size)
		}
		sizes[d.Digest] = d.Size
	}
	if t.size() < 0 {
		return fetch.Errorf(content.ErrSizeMismatch, "the sizes in manifest %s add up to more than %d bytes", t.leaf().desc.Digest, int64(math.MaxInt64))
	}
	return nil
}

// configDecides reports whether only the config can say if t serves a platform. If asks
// is false, serves says whether t does.
func (t target) configDecides(requirePlatform bool) (asks, serves bool) {
	if !t.choice.CheckConfig && (t.inIndex() || !requirePlatform) {
		return false, true
	}
	if !mediatype.IsConfig(t.manifest().Config.MediaType) {
		// An artifact is for all platforms. In an index that also has images for some
		// platforms, it is about these images, as an SBOM is, and is not an image for the
		// other platforms.
		return false, !t.inIndex() || !t.indexHasImages()
	}
	return true, false
}

// serves reports whether t, whose config names platform got, can run on want. If t is not
// in an index and cannot run on want, that is an error. A config that names no platform
// is accepted there, because signatures and other artifacts have such a config.
func (t target) serves(got, want ocispec.Platform) (bool, error) {
	if _, ok := (index.Selector{}).Match(got, want); ok || !t.inIndex() && got.OS == "" && got.Architecture == "" {
		return true, nil
	}
	if !t.inIndex() {
		return false, fetch.Errorf(content.ErrNoPlatform, "the image is for %.80q, not for %s", index.FormatPlatform(got), index.FormatPlatform(want))
	}
	return false, nil
}

// A walk finds a platform's manifest, starting from the document that a name points to.
type walk struct {
	want ocispec.Platform
	// read gets a document that an index names.
	read func(context.Context, ocispec.Descriptor) (document, error)
	// accept reports whether a manifest is taken. If not, the next candidate follows.
	accept func(context.Context, target) (bool, error)
}

// from returns the target that top leads to. An error that is an index.ErrNoMatch means
// that there is no manifest for the platform.
func (w walk) from(ctx context.Context, top document) (target, error) {
	docs := map[digest.Digest]document{}
	targetOf := func(found index.Resolved) target {
		t := target{docs: []document{top}}
		if top.parsed.Index == nil {
			return t
		}
		for _, d := range found.Through {
			t.docs = append(t.docs, docs[d.Digest])
		}
		t.docs = append(t.docs, docs[found.Descriptor.Digest])
		t.choice = found.Choice
		return t
	}
	resolver := index.Resolver{
		Fetch: func(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
			doc, err := w.read(ctx, desc)
			docs[desc.Digest] = doc
			return doc.body, err
		},
		Accept: func(ctx context.Context, found index.Resolved) (bool, error) {
			t := targetOf(found)
			if err := t.checkSize(); err != nil {
				return false, err
			}
			return w.accept(ctx, t)
		},
	}
	found, err := resolver.Resolve(ctx, top.desc, top.parsed, w.want)
	switch {
	case err == nil:
		return targetOf(found), nil
	case content.ReasonOf(err) == "" && (noMatch(err) || badDocument(err)):
		return target{}, documentError(err)
	}
	return target{}, err // from the Source, the Store or Spec.Admit
}

// noMatch reports whether err says that there is no manifest for the platform.
func noMatch(err error) bool { return errors.Is(err, index.ErrNoMatch) }

// badDocument reports whether err is what package index says of a document, or of the
// platform that was asked for.
func badDocument(err error) bool {
	var invalid *index.InvalidError
	return errors.As(err, &invalid) || errors.Is(err, index.ErrPlatform)
}
