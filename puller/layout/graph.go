package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/puller/content"
)

// maxDocument limits manifests and indexes that are read back.
const maxDocument = 4 << 20

// A document is what a manifest or an index names.
type document struct {
	Manifests []ocispec.Descriptor
	Config    *ocispec.Descriptor
	Layers    []ocispec.Descriptor
	Blobs     []ocispec.Descriptor // of an artifact manifest
	empty     bool                 // an element was left out that is too short to name anything
}

// parts are the blobs of a manifest.
func (d *document) parts() []ocispec.Descriptor {
	var parts []ocispec.Descriptor
	if d.Config != nil {
		parts = append(parts, *d.Config)
	}
	return append(append(parts, d.Layers...), d.Blobs...)
}

var errNoDocument = errors.New("not a manifest or an index")

// document reads a stored manifest or index. The error wraps fs.ErrNotExist if
// it is not stored, and errNoDocument if it is something else.
func (l *Layout) document(ctx context.Context, desc ocispec.Descriptor) (*document, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !mediatype.IsIndex(desc.MediaType) && !mediatype.IsManifest(desc.MediaType) {
		return nil, errNoDocument
	}
	if err := checkDesc(desc); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoDocument, err)
	}
	ok, err := l.has(ctx, desc)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, l.notFound("blob %s is not stored", desc.Digest)
	}
	data, err := l.readBlob(desc)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(data)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w: %w", desc.Digest, errNoDocument, err)
	}
	return doc, nil
}

// minDescriptor is the least that a descriptor with a digest has as JSON. Shorter
// ones are small as text and large in memory, and name nothing.
const minDescriptor = len(`{"digest":"sha256:"}`) + 64

func parseDocument(data []byte) (*document, error) {
	if !json.Valid(data) {
		return nil, errors.New("it is not JSON")
	}
	doc := new(document)
	var err error
	ok := eachMember(data, func(key, value []byte) bool {
		switch string(key) {
		case `"manifests"`:
			doc.Manifests, err = doc.list(value)
		case `"layers"`:
			doc.Layers, err = doc.list(value)
		case `"blobs"`:
			doc.Blobs, err = doc.list(value)
		case `"config"`:
			err = json.Unmarshal(value, &doc.Config)
		}
		return err == nil
	})
	if !ok && err == nil {
		err = errors.New("it is not an object")
	}
	return doc, err
}

// list reads a list of descriptors.
func (d *document) list(data []byte) ([]ocispec.Descriptor, error) {
	var all []ocispec.Descriptor
	var err error
	ok := eachElement(data, func(value []byte) bool {
		if len(value) < minDescriptor {
			d.empty = true
			return true
		}
		var desc ocispec.Descriptor
		err = json.Unmarshal(value, &desc)
		all = append(all, desc)
		return err == nil
	})
	if !ok && err == nil && string(data) != "null" {
		err = errors.New("a list of descriptors is not a list")
	}
	return all, err
}

// walk calls visit for desc and all that it leads to and that is not in seen yet,
// parents first, and says whether each is stored. What is not a manifest or an
// index, or cannot be read as one, leads to nothing.
func (l *Layout) walk(ctx context.Context, desc ocispec.Descriptor, seen map[digest.Digest]bool, visit func(desc ocispec.Descriptor, stored bool)) error {
	for todo := []ocispec.Descriptor{desc}; len(todo) > 0; {
		desc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[desc.Digest] || checkDesc(desc) != nil {
			continue
		}
		seen[desc.Digest] = true
		doc, err := l.document(ctx, desc)
		stored := err == nil
		switch {
		case stored:
			next := append(doc.Manifests, doc.parts()...)
			slices.Reverse(next) // the first comes next
			todo = append(todo, next...)
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, errNoDocument):
			if stored, err = l.has(ctx, desc); err != nil {
				return err
			}
		default:
			return err
		}
		visit(desc, stored)
	}
	return nil
}

// onlyImage returns the one manifest of an index that is stored whole, and desc
// itself if it is no index, or none or several are.
func (l *Layout) onlyImage(ctx context.Context, desc ocispec.Descriptor) (ocispec.Descriptor, error) {
	if !mediatype.IsIndex(desc.MediaType) {
		return desc, nil
	}
	doc, err := l.document(ctx, desc)
	if errors.Is(err, errNoDocument) {
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
		ok, err := l.complete(ctx, child)
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

// complete reports whether a manifest is stored with all its parts, or an index
// with one whole image at least. What is neither only has to be stored.
func (l *Layout) complete(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if checkDesc(desc) != nil {
		return false, nil
	}
	doc, err := l.document(ctx, desc)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, errNoDocument):
		return l.has(ctx, desc)
	case err != nil:
		return false, err
	}
	if mediatype.IsIndex(desc.MediaType) {
		seen := make(map[digest.Digest]bool)
		for _, child := range doc.Manifests {
			if seen[child.Digest] {
				continue // to read it again would tell the same
			}
			seen[child.Digest] = true
			// An index within an index counts as a blob: there is no third level.
			if mediatype.IsIndex(child.MediaType) {
				child.MediaType = ""
			}
			if ok, err := l.complete(ctx, child); ok || err != nil {
				return ok, err
			}
		}
		return len(doc.Manifests) == 0 && !doc.empty, nil
	}
	if doc.empty {
		return false, nil
	}
	for _, part := range doc.parts() {
		if len(part.URLs) > 0 {
			continue // foreign: not every pull fetches it
		}
		if checkDesc(part) != nil {
			return false, nil
		}
		ok, err := l.has(ctx, part)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// recheck is called with the index lock held, which Remove and Prune hold too:
// what a pull found to be there may have been removed before it came to tag.
// As long as nobody removed anything since the layout was opened, there is
// nothing to check.
func (l *Layout) recheck(ctx context.Context, desc ocispec.Descriptor) error {
	now, err := l.fs.Lstat(removalName)
	if errors.Is(err, fs.ErrNotExist) && l.removals == nil {
		return nil
	}
	if err == nil && l.removals != nil && l.fs.SameFile(now, l.removals) && now.ModTime().Equal(l.removals.ModTime()) {
		return nil
	}
	ok, err := l.complete(ctx, desc)
	if err == nil && !ok {
		err = &content.Error{
			Kind: content.ErrNotFound,
			Err:  fmt.Errorf("layout %q: something that %s needs was removed meanwhile; pull it again", l.dir, desc.Digest),
		}
	}
	return err
}
