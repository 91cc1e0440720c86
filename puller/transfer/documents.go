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

// documentError turns an error of package index into one with the content.Kind of the
// same name.
func documentError(err error) error {
	var invalid *index.InvalidError
	if errors.As(err, &invalid) {
		return &content.Error{Kind: content.Kind(invalid.Rule), Err: errors.New(invalid.Reason)}
	}
	if errors.Is(err, index.ErrNoMatch) || errors.Is(err, index.ErrPlatform) {
		return &content.Error{Kind: content.ErrNoPlatform, Err: err}
	}
	return &content.Error{Kind: content.ErrBadManifest, Err: err}
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

// configPlatform is the platform that a config in the Store names.
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

// topDocument is what the image's name points to. The registry is always asked. If the
// digest that it names is the one that the Store has for the name, the stored bytes are
// used. last says whether no other credential follows, so that the reason for a refused
// HEAD is worth another request.
func (r *Runtime) topDocument(ctx context.Context, o origin, last func() bool) (document, error) {
	have, err := r.store.Lookup(ctx, o.ref)
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
	desc, body, err := r.askManifest(ctx, o, have.Digest)
	if headRefused(err) && last != nil && last() {
		desc, body, err = r.askManifest(ctx, o, "")
	}
	if err != nil {
		return document{}, err
	}
	if body == nil {
		if stored == nil || desc.Digest != have.Digest {
			return document{}, fetch.Errorf(content.ErrBadManifest, "the source gave no manifest for %s", desc.Digest)
		}
		have.MediaType = desc.MediaType
		desc, body = have, stored
	}
	if err := o.checkPinned(desc); err != nil {
		return document{}, err
	}
	return verifyDocument(desc, desc, body)
}

func headRefused(err error) bool {
	var e *content.Error
	return errors.As(err, &e) && e.HeadRefused
}

// checkPinned returns an error if the reference names a digest and got has another one.
func (o origin) checkPinned(got ocispec.Descriptor) error {
	if pinned := o.ref.Digest(); pinned != "" && got.Digest != pinned {
		return fetch.Errorf(content.ErrDigestMismatch, "the source gave manifest %s for %s", got.Digest, pinned)
	}
	return nil
}

// child is a document that an index names: from the Store, from the descriptor's own
// data, or from the registry.
func (r *Runtime) child(ctx context.Context, o origin, desc ocispec.Descriptor) (document, error) {
	has, err := r.has(ctx, desc)
	if err != nil {
		return document{}, err
	}
	if has {
		if doc, err := r.storedDocument(ctx, desc); err == nil || content.KindOf(err) != content.ErrStore {
			return doc, err
		}
	}
	if int64(len(desc.Data)) == desc.Size && verify.Bytes(desc.Digest, desc.Data) {
		return parse(desc, desc.Data)
	}
	ref, err := o.ref.WithoutTag().WithDigest(desc.Digest)
	if err != nil {
		return document{}, &content.Error{Kind: content.ErrBadDigest, Err: err}
	}
	o.ref = ref
	got, body, err := r.askManifest(ctx, o, "")
	if err != nil {
		return document{}, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return verifyDocument(desc, got, body)
}

// verifyDocument checks a Source's answer against the descriptor that named the document.
// A Source may be of any origin, and all that follows depends on these bytes.
func verifyDocument(want, got ocispec.Descriptor, body []byte) (document, error) {
	if err := fetch.CheckDescriptor(want); err != nil {
		return document{}, err
	}
	if int64(len(body)) != want.Size {
		return document{}, fetch.Errorf(content.ErrSizeMismatch, "manifest %s has %d bytes, its descriptor says %d", want.Digest, len(body), want.Size)
	}
	if !verify.Bytes(want.Digest, body) {
		return document{}, fetch.Errorf(content.ErrDigestMismatch, "manifest is not %s", want.Digest)
	}
	doc, err := parse(want, body)
	if err != nil {
		return document{}, err
	}
	if got.MediaType != "" && want.MediaType != got.MediaType {
		// The server's media type and the index's must lead to the same reading.
		if _, err := index.Parse(got.MediaType, body); err != nil {
			return document{}, documentError(err)
		}
	}
	return doc, nil
}

// askManifest is Source.Manifest.
func (r *Runtime) askManifest(ctx context.Context, o origin, have digest.Digest) (desc ocispec.Descriptor, body []byte, err error) {
	err = r.ask(ctx, func(ctx context.Context) (err error) {
		desc, body, err = r.source.Manifest(ctx, o.ref, o.cred, have)
		return err
	})
	return desc, body, err
}

// askDigest is content.Resolver.Resolve.
func (r *Runtime) askDigest(ctx context.Context, o origin, source content.Resolver) (desc ocispec.Descriptor, err error) {
	err = r.ask(ctx, func(ctx context.Context) (err error) {
		desc, err = source.Resolve(ctx, o.ref, o.cred)
		return err
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := fetch.CheckDescriptor(desc); err != nil {
		return ocispec.Descriptor{}, err
	}
	return desc, o.checkPinned(desc)
}

// ask calls request, which asks the Source about a manifest. Only Config.Blobs of these
// calls run at the same time, and none takes longer than Config.Stall.
func (r *Runtime) ask(ctx context.Context, request func(context.Context) error) error {
	select {
	case r.documents <- struct{}{}:
		defer func() { <-r.documents }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, watch := watchStall(ctx, r.stall)
	return watch.end(request(ctx))
}

// A target is what a name stands for on a platform.
type target struct {
	docs   []document   // from what the name points to down to the platform's manifest
	choice index.Choice // the entry that led to the manifest; zero without an index
}

func (t target) top() ocispec.Descriptor     { return t.docs[0].desc }
func (t target) leaf() document              { return t.docs[len(t.docs)-1] }
func (t target) manifest() *ocispec.Manifest { return t.leaf().parsed.Manifest }
func (t target) inIndex() bool               { return len(t.docs) > 1 }

// besideImages reports whether the index that led to the manifest has entries with a
// platform.
func (t target) besideImages() bool {
	for _, entry := range t.docs[len(t.docs)-2].parsed.Index.Manifests {
		if entry.Platform != nil && entry.Platform.OS != "" {
			return true
		}
	}
	return false
}

// blobs are the config and the layers, each digest once.
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

// documents are the descriptors of manifest and indexes with their bytes, as blobs that
// need no request.
func (t target) documents() []ocispec.Descriptor {
	var descs []ocispec.Descriptor
	for _, d := range t.docs {
		desc := d.desc
		desc.Data = d.body
		descs = append(descs, desc)
	}
	return descs
}

// size is what the documents and blobs take in the Store. It is negative if that is more
// than an int64 holds.
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

// checkSize refuses sizes that cannot be true: one digest with two sizes, and more than
// an int64 holds in all.
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

// configDecides reports whether only the config can say if t serves a platform. If not,
// serves says whether it does.
func (t target) configDecides(requirePlatform bool) (asks, serves bool) {
	if !t.choice.CheckConfig && (t.inIndex() || !requirePlatform) {
		return false, true
	}
	if !mediatype.IsConfig(t.manifest().Config.MediaType) {
		// An artifact is for all platforms. In an index that also has images for some
		// platforms, it says something about these, as an SBOM does, and is not an
		// image for the other platforms.
		return false, !t.inIndex() || !t.besideImages()
	}
	return true, false
}

// serves reports whether t, whose config names platform got, can run on want. Outside an
// index it is an error if it cannot. Signatures and other artifacts come there with an
// image config that names no platform.
func (t target) serves(got, want ocispec.Platform) (bool, error) {
	if _, ok := (index.Selector{}).Match(got, want); ok || !t.inIndex() && got.OS == "" && got.Architecture == "" {
		return true, nil
	}
	if !t.inIndex() {
		return false, fetch.Errorf(content.ErrNoPlatform, "the image is for %.80q, not for %s", index.FormatPlatform(got), index.FormatPlatform(want))
	}
	return false, nil
}

// A walk goes from what a name points to down to a platform's manifest.
type walk struct {
	want ocispec.Platform
	// read gets a document that an index names.
	read func(context.Context, ocispec.Descriptor) (document, error)
	// accept reports whether a manifest is the one. If not, the next candidate is taken.
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
	case content.KindOf(err) == "" && (noMatch(err) || badDocument(err)):
		return target{}, documentError(err)
	}
	return target{}, err // from the Source, the Store or Config.Admit
}

// noMatch reports whether err says that there is no manifest for the platform.
func noMatch(err error) bool { return errors.Is(err, index.ErrNoMatch) }

// badDocument reports whether err is what package index says of a document, or of the
// platform that was asked for.
func badDocument(err error) bool {
	var invalid *index.InvalidError
	return errors.As(err, &invalid) || errors.Is(err, index.ErrPlatform)
}
