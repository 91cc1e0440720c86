package transfer

import (
	"context"
	"errors"
	"math"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/content"
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

// documentError gives what package index found the kind of the same name.
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

// A target is what a name stands for on a platform.
type target struct {
	docs   []document   // from what the name points to down to the platform's manifest
	choice index.Choice // the entry that led to the manifest; zero without an index
}

func (t target) top() ocispec.Descriptor     { return t.docs[0].desc }
func (t target) leaf() document              { return t.docs[len(t.docs)-1] }
func (t target) manifest() *ocispec.Manifest { return t.leaf().parsed.Manifest }

// besideImages reports whether the index that led to the manifest has entries
// with a platform.
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

// size is what the documents and blobs take in the store; negative if that is
// more than an int64 holds.
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

// checkSize refuses sizes that cannot be true before room is made for them: one
// digest with two sizes, and more than an int64 holds in all.
func (t target) checkSize() error {
	m := t.manifest()
	sizes := map[digest.Digest]int64{m.Config.Digest: m.Config.Size}
	for _, d := range m.Layers {
		if size, ok := sizes[d.Digest]; ok && size != d.Size {
			return failf(content.ErrSizeMismatch, "manifest %s says that %s has %d bytes, and %d", t.leaf().desc.Digest, d.Digest, size, d.Size)
		}
		sizes[d.Digest] = d.Size
	}
	if t.size() < 0 {
		return failf(content.ErrSizeMismatch, "the sizes in manifest %s add up to more than %d bytes", t.leaf().desc.Digest, int64(math.MaxInt64))
	}
	return nil
}

// A walk goes from what a name points to down to a platform's manifest.
type walk struct {
	want ocispec.Platform
	// read gets a document that an index names.
	read func(context.Context, ocispec.Descriptor) (document, error)
	// accept says whether a manifest will do; if not, the next candidate is taken.
	accept func(context.Context, target) (bool, error)
}

// from returns the target that top leads to. An error that is an
// index.ErrNoMatch means that nothing there fits.
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
	case content.KindOf(err) == "" && (unfit(err) || badDocument(err)):
		return target{}, documentError(err)
	}
	return target{}, err // the Source's, the Store's or the hook's
}

// unfit reports whether err says that nothing is for the platform.
func unfit(err error) bool { return errors.Is(err, index.ErrNoMatch) }

// badDocument reports whether err is what package index says of a document, or
// of the platform that was asked for.
func badDocument(err error) bool {
	var invalid *index.InvalidError
	return errors.As(err, &invalid) || errors.Is(err, index.ErrPlatform)
}
