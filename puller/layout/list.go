package layout

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/reference"
)

// An Image is one entry of index.json.
type Image struct {
	// Ref is the image's name; zero if the entry has none that is whole, such
	// as the bare tags that other tools write.
	Ref reference.Reference
	// Name is the name as it stands in the entry; "" if there is none.
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
	images := make([]Image, 0, len(ix.entries))
	for _, e := range ix.entries {
		img, err := imageOf(e)
		if err != nil {
			return nil, l.fail(err, "list")
		}
		images = append(images, img)
	}
	return images, nil
}

func imageOf(e entry) (Image, error) {
	img := Image{Name: e.name}
	var err error
	if img.Manifest, img.Descriptor, err = decodeEntry(e.raw); err != nil {
		return Image{}, err
	}
	// Only a whole name is one: "v1" would parse as docker.io/library/v1.
	if ref, err := reference.Parse(e.name); err == nil && ref.String() == e.name {
		img.Ref = ref
	}
	return img, nil
}
