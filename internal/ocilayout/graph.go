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
	"github.com/pullkit/pullkit/puller/content"
)

// Blobs has content by digest. Every content.Store is one.
type Blobs interface {
	// Has reports whether desc's content is stored, whole.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Open reads it. The error wraps fs.ErrNotExist if there is none.
	Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}

// MaxDocument limits manifests and indexes that are read back.
const MaxDocument = 4 << 20

// ErrNoDocument says that content is neither a manifest nor an index.
var ErrNoDocument = errors.New("not a manifest or an index")

// A Document is what a manifest or an index names.
type Document struct {
	Manifests []ocispec.Descriptor
	Config    *ocispec.Descriptor
	Layers    []ocispec.Descriptor
	Blobs     []ocispec.Descriptor // of an artifact manifest
	empty     bool                 // an element was left out that is too short to name anything
}

// Parts are the blobs of a manifest.
func (d *Document) Parts() []ocispec.Descriptor {
	var parts []ocispec.Descriptor
	if d.Config != nil {
		parts = append(parts, *d.Config)
	}
	return append(append(parts, d.Layers...), d.Blobs...)
}

// ReadBlob reads a small blob. The error wraps fs.ErrNotExist if it is not stored.
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

// Read reads a stored manifest or index. The error wraps fs.ErrNotExist if
// it is not stored, and ErrNoDocument if it is something else.
func Read(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) (*Document, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !mediatype.IsIndex(desc.MediaType) && !mediatype.IsManifest(desc.MediaType) {
		return nil, ErrNoDocument
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

// minDescriptor is how many bytes a descriptor with a digest has at least, as JSON. A
// shorter one names nothing. It is not kept, because it would be large in memory.
const minDescriptor = len(`{"digest":"sha256:"}`) + 64

// ParseDocument reads a manifest or an index.
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
					err = json.Unmarshal(raw, &doc.Config)
				}
			}
			return err
		})
	})
	return doc, err
}

// list reads a list of descriptors.
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
		err = json.Unmarshal(raw, &desc)
		all = append(all, desc)
		return err
	})
	return all, err
}

// Walk calls visit for desc and all that it leads to and that is not in seen yet,
// parents first, and says whether each is stored. What is not a manifest or an
// index, or cannot be read as one, leads to nothing.
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
			slices.Reverse(next) // the first comes next
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

// OnlyImage returns the one manifest of an index that is stored whole, and desc
// itself if it is not an index, or if none or several are.
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
			return desc, nil // several
		}
		found = child
	}
	return found, nil
}

// maxLevels is how many levels of indexes Complete follows below the first, as a pull does.
const maxLevels = 4

// Complete reports whether a manifest is stored with all its parts, or an index
// with one whole image at least, itself or in an index within it. What is neither only
// has to be stored.
func Complete(ctx context.Context, blobs Blobs, desc ocispec.Descriptor) (bool, error) {
	return complete(ctx, blobs, desc, maxLevels, make(map[digest.Digest]bool))
}

// complete is Complete for what has no digest in seen: to read that again would give
// the same answer, which was no.
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

// hasParts reports whether a manifest's blobs are stored.
func hasParts(ctx context.Context, blobs Blobs, doc *Document) (bool, error) {
	if doc.empty {
		return false, nil
	}
	for _, part := range doc.Parts() {
		if len(part.URLs) > 0 {
			continue // foreign: not every pull fetches it
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

// Lists reports whether a stored index has an entry with manifest's digest.
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
