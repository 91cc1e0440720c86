package layout

import (
	"context"
	"errors"
	"io/fs"
	"runtime"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/reference"
)

// savedImages is the manifest.json for the entries: each image once, with all its tags.
func (l *Layout) savedImages(ctx context.Context, ix *indexFile) ([]dockerImage, error) {
	var images []dockerImage
	at := make(map[digest.Digest]int) // manifest -> index in images
	for i, e := range ix.entries {
		shown, _, err := decodeEntry(e.raw)
		if err != nil {
			return nil, err
		}
		desc, ok, err := l.runnable(ctx, shown)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		n, ok := at[desc.Digest]
		if !ok {
			img, ok, err := l.savedImage(ctx, desc)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			n = len(images)
			at[desc.Digest] = n
			images = append(images, img)
		}
		if tag := dockerTag(e.ref); tag != "" && ix.byRef[e.ref] == i {
			images[n].RepoTags = append(images[n].RepoTags, tag)
		}
	}
	return images, nil
}

// dockerTag is a name as docker load takes it; "" for one with a digest.
func dockerTag(name string) string {
	ref, err := reference.Parse(name)
	if err != nil || ref.Digest() != "" {
		return ""
	}
	return name
}

// runnable is the one manifest of what an entry shows that Docker's format can
// hold: of an index the image for this machine's architecture, or else the first
// that is whole.
func (l *Layout) runnable(ctx context.Context, desc ocispec.Descriptor) (ocispec.Descriptor, bool, error) {
	if !mediatype.IsIndex(desc.MediaType) {
		return desc, mediatype.IsManifest(desc.MediaType), nil
	}
	doc, err := l.document(ctx, desc)
	if errors.Is(err, errNoDocument) || errors.Is(err, fs.ErrNotExist) {
		return desc, false, nil
	}
	if err != nil {
		return desc, false, err
	}
	found := false
	for _, child := range doc.Manifests {
		ours := child.Platform != nil && child.Platform.Architecture == runtime.GOARCH
		if !mediatype.IsManifest(child.MediaType) || found && !ours || child.Platform != nil && child.Platform.OS == "unknown" {
			continue // the last is an attestation
		}
		ok, err := l.complete(ctx, child)
		if err != nil {
			return desc, false, err
		}
		if !ok {
			continue
		}
		if desc, found = child, true; ours {
			break
		}
	}
	return desc, found, nil
}

// savedImage is a manifest as docker save writes it. It reports false for what is
// not a container image, or not all of it in the archive: one such entry would
// make docker load refuse all the others.
func (l *Layout) savedImage(ctx context.Context, desc ocispec.Descriptor) (dockerImage, bool, error) {
	none := dockerImage{}
	doc, err := l.document(ctx, desc)
	if errors.Is(err, errNoDocument) || errors.Is(err, fs.ErrNotExist) {
		return none, false, nil
	}
	if err != nil {
		return none, false, err
	}
	if doc.Config == nil || !mediatype.IsConfig(doc.Config.MediaType) {
		return none, false, nil
	}
	img := dockerImage{Config: blobName(doc.Config.Digest), Layers: []string{}}
	for _, part := range doc.parts() {
		ok, err := l.has(ctx, part)
		if !ok || err != nil {
			return none, false, err
		}
	}
	for _, layer := range doc.Layers {
		if !mediatype.IsLayer(layer.MediaType) {
			return none, false, nil
		}
		img.Layers = append(img.Layers, blobName(layer.Digest))
	}
	return img, true, nil
}
