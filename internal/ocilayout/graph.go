package ocilayout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// Blobs gives access to stored content by digest. Every content.Store implements it.
type Blobs interface {
	// Has reports whether all of desc's content is stored.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Open opens desc's content for reading. The error wraps fs.ErrNotExist if the
	// content is not stored.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// MaxDocument is the most bytes of a manifest or an index that this package reads.
const MaxDocument = 4 << 20

// ErrNoDocument means that content is neither a manifest nor an index.
var ErrNoDocument = errors.New("not a manifest or an index")

// A Document holds the descriptors in a manifest or an index.
type Document struct {
	Manifests []ocispec.Descriptor // of an index
	Config    *ocispec.Descriptor  // of an image manifest; nil if it does not have one
	Layers    []ocispec.Descriptor // of an image manifest
	Blobs     []ocispec.Descriptor // of an artifact manifest
	empty     bool                 // a list has an element that was left out, because it is too short to be a descriptor with a digest
}

// Parts returns the descriptors of a manifest's config, layers and blobs, in this order.
func (d *Document) Parts() []ocispec.Descriptor {
	var parts []ocispec.Descriptor
	if d.Config != nil {
		parts = append(parts, *d.Config)
	}
	return append(append(parts, d.Layers...), d.Blobs...)
}

// ReadBlob returns the content of a small blob. The error wraps fs.ErrNotExist if the
// content is not stored, or if the stored content is shorter than desc.Size.
func ReadBlob(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > MaxDocument {
		return nil, fmt.Errorf("blob %s has %d bytes, more than %d", desc.Digest, desc.Size, MaxDocument)
	}
	r, err := blobs.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, desc.Size)
	_, err = io.ReadFull(r, data)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, &content.Error{Reason: content.ErrNotFound, Err: fmt.Errorf("blob %s with %d bytes is not stored, only a shorter one", desc.Digest, desc.Size)}
	}
	return data, err
}

// ReadVerified returns the content of a small blob that has the digest of desc. The error
// wraps content.ErrDigestMismatch if the stored content has another digest.
func ReadVerified(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) ([]byte, error) {
	data, err := ReadBlob(ctx, blobs, desc)
	if err != nil {
		return nil, err
	}
	if !verify.Bytes(desc.Digest, data) {
		return nil, Damaged(desc)
	}
	return data, nil
}

// Damaged returns the error for stored content with another digest than that of desc.
func Damaged(desc ocispec.Descriptor) error {
	return &content.Error{Reason: content.ErrDigestMismatch, Err: fmt.Errorf("blob %s is damaged in the store: remove it there (a layout's Repair does) and pull again", desc.Digest)}
}

// IsDocument reports whether a media type is that of content that leads to other content: an
// index, or a manifest of an image or an artifact.
func IsDocument(mediaType string) bool {
	return mediatype.IsIndex(mediaType) || mediatype.IsManifest(mediaType) || mediatype.IsArtifactManifest(mediaType)
}

// Read returns a stored manifest or index. The error wraps fs.ErrNotExist if desc is not
// stored. The error wraps ErrNoDocument if desc's media type is not that of a manifest or
// an index, if the content is not one, or if it has more than MaxDocument bytes.
func Read(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) (*Document, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !IsDocument(desc.MediaType) {
		return nil, ErrNoDocument
	}
	if desc.Size > MaxDocument {
		return nil, fmt.Errorf("blob %s: %w: it has %d bytes, more than %d", desc.Digest, ErrNoDocument, desc.Size, MaxDocument)
	}
	if err := CheckDescriptor(desc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDocument, err)
	}
	data, err := ReadBlob(ctx, blobs, desc)
	if err != nil {
		return nil, err
	}
	doc, err := ParseDocument(data)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w: %w", desc.Digest, ErrNoDocument, err)
	}
	return doc, nil
}

// minDescriptor is the least length, as JSON, of a descriptor with a digest. A shorter
// element of a list names no blob. It is left out, because as a descriptor it would take
// many times its length in memory.
const minDescriptor = len(`{"digest":"sha256:"}`) + 64

// ParseDocument returns the descriptors in a manifest or an index.
func ParseDocument(data []byte) (*Document, error) {
	doc := new(Document)
	err := strictjson.Decode(data, limits, func(r *strictjson.Reader) error {
		if r.Null() {
			return errors.New("it is not an object")
		}
		return r.Members(func(key string) (err error) {
			switch key {
			case "manifests":
				doc.Manifests, err = doc.list(r)
			case "layers":
				doc.Layers, err = doc.list(r)
			case "blobs":
				doc.Blobs, err = doc.list(r)
			case "config":
				var raw []byte
				if raw, err = r.Raw(); err == nil {
					err = decode(raw, &doc.Config)
				}
			}
			return err
		})
	})
	return doc, err
}

// list returns the descriptors of a list.
func (d *Document) list(r *strictjson.Reader) (all []ocispec.Descriptor, err error) {
	err = r.Array(func(int) error {
		raw, err := r.Raw()
		if err != nil {
			return err
		}
		if len(raw) < minDescriptor {
			d.empty = true
			return nil
		}
		var desc ocispec.Descriptor
		err = decode(raw, &desc)
		all = append(all, desc)
		return err
	})
	return all, err
}

// Walk calls visit for desc and for all descriptors that it leads to, parents first.
// stored says whether the content is stored. Walk skips descriptors whose digest is in
// seen, and adds the others to seen. Content that is not a manifest or an index leads to
// no other descriptor.
func Walk(ctx context.Context, blobs Blobs, desc ocispec.Descriptor, seen map[digest.Digest]bool, visit func(desc ocispec.Descriptor, stored bool)) error {
	for todo := []ocispec.Descriptor{desc}; len(todo) > 0; {
		desc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[desc.Digest] || CheckDescriptor(desc) != nil {
			continue
		}
		seen[desc.Digest] = true
		doc, err := Read(ctx, blobs, desc)
		stored := err == nil
		switch {
		case stored:
			next := append(doc.Manifests, doc.Parts()...)
			slices.Reverse(next) // the first descriptor is visited next
			todo = append(todo, next...)
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, ErrNoDocument):
			if stored, err = blobs.Has(ctx, desc); err != nil {
				return err
			}
		default:
			return err
		}
		visit(desc, stored)
	}
	return nil
}

// ImageToUnpack returns the manifest that desc names: desc itself, or the only stored
// manifest of an index. The error wraps content.ErrNoPlatform if not exactly one manifest of
// the index is stored.
func ImageToUnpack(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	if err := CheckDescriptor(desc); err != nil {
		return desc, err
	}
	only, err := OnlyImage(ctx, blobs, desc)
	if err == nil && mediatype.IsIndex(only.MediaType) {
		err = &content.Error{Reason: content.ErrNoPlatform, Err: fmt.Errorf("index %s does not have exactly one stored manifest: pass the descriptor of a manifest", desc.Digest)}
	}
	return only, err
}

// OnlyImage returns the manifest of an index if exactly one manifest of the index is
// stored with all its parts. Otherwise, and if desc is not an index, it returns desc.
func OnlyImage(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	if !mediatype.IsIndex(desc.MediaType) {
		return desc, nil
	}
	doc, err := Read(ctx, blobs, desc)
	if errors.Is(err, ErrNoDocument) {
		return desc, nil
	}
	if err != nil {
		return desc, err
	}
	found := desc
	seen := make(map[digest.Digest]bool)
	for _, child := range doc.Manifests {
		if !mediatype.IsManifest(child.MediaType) || seen[child.Digest] {
			continue
		}
		seen[child.Digest] = true
		ok, err := Complete(ctx, blobs, child)
		if err != nil {
			return desc, err
		}
		if !ok {
			continue
		}
		if found.Digest != desc.Digest && found.Digest != child.Digest {
			return desc, nil // more than one manifest is stored
		}
		found = child
	}
	return found, nil
}

// maxLevels is how many levels of indexes Complete follows below the first index. A pull
// follows as many.
const maxLevels = 4

// Complete reports whether an image is stored. A manifest must be stored with all its
// parts. An index must be stored with at least one complete image, which it lists
// directly or through indexes within it. Other content must only be stored.
func Complete(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) (bool, error) {
	return complete(ctx, blobs, desc, maxLevels, make(map[digest.Digest]bool))
}

// complete is Complete with a limit of levels. It returns false for a digest in seen, because
// an earlier call has returned false for this digest.
func complete(ctx context.Context, blobs Blobs, desc ocispec.Descriptor, levels int, seen map[digest.Digest]bool) (bool, error) {
	if CheckDescriptor(desc) != nil || seen[desc.Digest] {
		return false, nil
	}
	seen[desc.Digest] = true
	doc, err := Read(ctx, blobs, desc)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, ErrNoDocument):
		return blobs.Has(ctx, desc)
	case err != nil:
		return false, err
	}
	if mediatype.IsIndex(desc.MediaType) {
		for _, child := range doc.Manifests {
			if mediatype.IsIndex(child.MediaType) && levels == 0 {
				continue
			}
			if ok, err := complete(ctx, blobs, child, levels-1, seen); ok || err != nil {
				return ok, err
			}
		}
		return len(doc.Manifests) == 0 && !doc.empty, nil
	}
	return hasParts(ctx, blobs, doc)
}

// hasParts reports whether all blobs of a manifest are stored.
func hasParts(ctx context.Context, blobs Blobs, doc *Document) (bool, error) {
	if doc.empty {
		return false, nil
	}
	for _, part := range doc.Parts() {
		if len(part.URLs) > 0 {
			continue // a foreign layer, which some pulls do not fetch
		}
		if CheckDescriptor(part) != nil {
			return false, nil
		}
		ok, err := blobs.Has(ctx, part)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Lists reports whether index is a stored index that has an entry with manifest's digest.
func Lists(ctx context.Context, blobs Blobs, index, manifest ocispec.Descriptor) (bool, error) {
	if !mediatype.IsIndex(index.MediaType) {
		return false, nil
	}
	doc, err := Read(ctx, blobs, index)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoDocument) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(doc.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == manifest.Digest }), nil
}

// decode reads a descriptor. Its error does not quote encoding/json, because the words of
// that package change with GOEXPERIMENT=jsonv2.
func decode(raw []byte, into any) error {
	if json.Unmarshal(raw, into) != nil {
		return errors.New("a field of a descriptor has a value of another type")
	}
	return nil
}
