package layout

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/reference"
)

// An Image is one entry of index.json.
type Image struct {
	// Ref is the name under which Lookup answers with this entry. It is zero if
	// there is none: the entry has no name, or one without a registry, such as
	// the bare tags that other tools write, or another entry comes first.
	Ref reference.Reference
	// Name is the entry's ref.name annotation, under which other tools find it; "" if
	// there is none.
	Name string
	// Descriptor is what Lookup returns: what the name resolved to, often an index.
	Descriptor ocispec.Descriptor
	// Manifest is what the entry shows to other tools: the stored manifest of
	// an index, or the same as Descriptor.
	Manifest ocispec.Descriptor
}

// List returns the entries of index.json in their order, those of other tools
// among them. The error is of kind content.ErrStore.
func (l *Layout) List(ctx context.Context) ([]Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ix, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(ix.Entries))
	for i := range ix.Entries {
		img, err := l.image(ctx, ix, i)
		if err != nil {
			return nil, l.failOrCtx(ctx, err, "list")
		}
		images = append(images, img)
	}
	return images, nil
}

// image is the entry with number i.
func (l *Layout) image(ctx context.Context, ix *indexFile, i int) (Image, error) {
	e := ix.Entries[i]
	img := Image{Name: e.Name}
	var err error
	if img.Manifest, img.Descriptor, err = l.resolve(ctx, ix, e); err != nil {
		return Image{}, err
	}
	if ix.Answers(i) {
		img.Ref, err = reference.Parse(e.Ref)
	}
	return img, err
}
