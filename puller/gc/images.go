package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
)

// Images is a store of which images are listed and removed. [FromStore] returns the Images
// of a layout.Layout and of every other content.Remover. An adapter for a container
// runtime implements Images by the CRI calls ListImages and RemoveImage. The methods may
// be called concurrently.
type Images interface {
	// List returns all images of the store, each ID once.
	List(ctx context.Context) ([]Image, error)
	// Remove removes an image that List returned, with all its names. It returns how many
	// bytes became free, also if it returns an error. Content that another image uses is kept
	// and not counted. If a pull or another program has changed the image since it was
	// listed, the image is kept, and the error wraps content.ErrChanged. If the image is gone
	// already, Remove succeeds.
	//
	// keep are the digests that Config.InUse has yielded, and the IDs of images that were used
	// less than Config.MinAge ago and that List does not return any more. All content to which
	// these manifests and indexes lead is kept, also if List does not return the image that
	// needs it. A store that lists all its images, also those without a name, need not read
	// keep.
	Remove(ctx context.Context, image Image, keep []digest.Digest) (freed int64, err error)
}

// A Directory is an Images whose content is in a directory. It is optional. The defaults
// of Config.Usage and Config.StateDir use this directory.
type Directory interface {
	Images
	// Dir returns the path of the directory; "" if the content is not in a directory.
	Dir() string
}

// An Image is one image in a store.
type Image struct {
	// ID is the ID of the image, as in puller.Image.
	ID string `json:"id"`
	// Parts are the IDs of further images that come and go with this one: the images in a
	// stored index.
	Parts []string `json:"parts,omitempty"`
	// Names are the names of the image: names with a tag, and names with a digest, as in the
	// field RepoDigests of CRI. Config.InUse may yield any of them.
	Names []string `json:"names,omitempty"`
	// Size is how many bytes the content of the image takes up in the store, including
	// content that it shares with other images; 0 if this is not known.
	Size int64 `json:"size,omitempty"`
	// Pinned says that the store pins the image, as a container runtime pins its sandbox
	// image.
	Pinned bool `json:"pinned,omitempty"`
	// Foreign says that the store has the image under a name that is not a whole image name.
	// Pulls write only whole names, so another program needs the image.
	Foreign bool `json:"foreign,omitempty"`

	entries []content.Entry // the entries of the image in a content.Remover
	aliases []string        // other names and IDs of the image that Config.InUse may yield
}

// ids returns the ID and the Parts.
func (i Image) ids() []string { return append([]string{i.ID}, i.Parts...) }

// FromStore returns the images of a store, for example of a layout.Layout. An image is a
// manifest with all names that lead to it. If the store has several images of an index,
// the index is one image with all names that lead to it. The ID of an image is the digest
// of the manifest or index, as in a puller.Image from package transfer.
//
// If the store has a method Dir, as a layout.Layout has, the result is a [Directory] with
// that directory. If the store has the method Prune of a layout.Layout, a round that frees
// space first removes content that neither a name nor a digest in use leads to, and that no
// pull has used for an hour. If the store has the method
//
//	Pinned(ctx context.Context, entries ...content.Entry) (bool, error)
//
// then the method says which images are pinned. A store that belongs to a container
// runtime can have such a method.
func FromStore(store content.Remover) Images { return &storeImages{store: store} }

type storeImages struct {
	store content.Remover
	known documents
}

// Dir implements Directory.
func (s *storeImages) Dir() string {
	if d, ok := s.store.(interface{ Dir() string }); ok {
		return d.Dir()
	}
	return ""
}

// prune removes content that neither a name nor one of keep leads to, and that no pull has
// used for an hour.
func (s *storeImages) prune(ctx context.Context, keep []digest.Digest) (int64, error) {
	p, ok := s.store.(interface {
		Prune(context.Context, layout.PruneConfig) (content.Removal, error)
	})
	if !ok {
		return 0, nil
	}
	removed, err := p.Prune(ctx, layout.PruneConfig{Keep: keep})
	return removed.Bytes, err
}

// List implements Images.
func (s *storeImages) List(ctx context.Context) ([]Image, error) {
	entries, err := s.store.List(ctx)
	if err != nil {
		return nil, err
	}
	var images []Image
	at := make(map[digest.Digest]int)
	for _, e := range entries {
		d := e.Manifest.Digest
		i, ok := at[d]
		if !ok {
			i = len(images)
			at[d] = i
			image, err := s.describe(ctx, e.Manifest)
			if err != nil {
				return nil, fmt.Errorf("image %.80q: %w", e.Name, err)
			}
			images = append(images, image)
		}
		image := &images[i]
		image.entries = append(image.entries, e)
		if index := string(e.Descriptor.Digest); index != image.ID && !slices.Contains(image.aliases, index) {
			image.aliases = append(image.aliases, index)
			image.Size += min(max(e.Descriptor.Size, 0), math.MaxInt64-image.Size)
		}
		if e.Ref.IsZero() {
			image.Foreign = true
			continue
		}
		image.Names = append(image.Names, e.Ref.String())
		for _, d := range append([]string{string(e.Descriptor.Digest)}, image.ids()...) {
			image.aliases = append(image.aliases, e.Ref.Name()+"@"+d)
		}
	}
	s.known.keep(at)
	if p, ok := s.store.(interface {
		Pinned(context.Context, ...content.Entry) (bool, error)
	}); ok {
		for i := range images {
			if images[i].Pinned, err = p.Pinned(ctx, images[i].entries...); err != nil {
				return nil, fmt.Errorf("is image %s pinned: %w", nameOf(images[i]), err)
			}
		}
	}
	return images, nil
}

// Remove implements Images.
func (s *storeImages) Remove(ctx context.Context, image Image, keep []digest.Digest) (int64, error) {
	removed, err := s.store.RemoveImage(ctx, image.entries, keep)
	return removed.Bytes, err
}

// The limits for the documents of an index, as in a pull.
const (
	maxLevels    = 5
	maxDocuments = 1000
)

// describe returns the image of a manifest or an index: its ID, Parts, Size and aliases.
func (s *storeImages) describe(ctx context.Context, top ocispec.Descriptor) (Image, error) {
	image := Image{ID: string(top.Digest)}
	if !mediatype.IsIndex(top.MediaType) {
		doc, ok, err := s.known.read(ctx, s.store, top)
		if ok {
			image.Size, image.aliases = doc.size, []string{doc.config}
		}
		return image, err
	}
	counted := make(map[digest.Digest]bool)
	level, read := []ocispec.Descriptor{top}, 0
	for range maxLevels {
		var below []ocispec.Descriptor
		for _, d := range level {
			if read++; read > maxDocuments || counted[d.Digest] {
				continue
			}
			doc, err := readDocument(ctx, s.store, d)
			if err != nil {
				return image, err
			}
			if doc == nil {
				continue // of another platform, or damaged
			}
			image.add(d, counted)
			for _, part := range doc.Parts() {
				image.add(part, counted)
			}
			if d.Digest != top.Digest {
				image.Parts = append(image.Parts, string(d.Digest))
			}
			if doc.Config != nil {
				image.aliases = append(image.aliases, string(doc.Config.Digest))
			}
			below = append(below, doc.Manifests...)
		}
		level = below
	}
	return image, nil
}

// add adds the size of a blob to the Size of the image, once for each digest.
func (i *Image) add(d ocispec.Descriptor, counted map[digest.Digest]bool) {
	if !counted[d.Digest] && d.Size > 0 {
		counted[d.Digest] = true
		i.Size += min(d.Size, math.MaxInt64-i.Size)
	}
}

// readDocument returns the stored manifest or index d; nil if it is not stored, or if the
// stored content is neither a manifest nor an index.
func readDocument(ctx context.Context, store content.Store, d ocispec.Descriptor) (*ocilayout.Document, error) {
	doc, err := ocilayout.Read(ctx, store, d)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ocilayout.ErrNoDocument) {
		return nil, nil
	}
	return doc, err
}

// A document has the facts about a manifest that are remembered. They do not change,
// because the manifest has a digest.
type document struct {
	size   int64
	config string // the digest of the config, which is the image's ID in CRI; "" without a config
}

// documents remembers the manifests of the last list, so that each manifest is read once.
type documents struct {
	mu  sync.Mutex
	all map[digest.Digest]document
}

// read returns the document of the manifest d. The result is false if d is not stored or
// is not a manifest.
func (k *documents) read(ctx context.Context, store content.Store, d ocispec.Descriptor) (document, bool, error) {
	k.mu.Lock()
	found, ok := k.all[d.Digest]
	k.mu.Unlock()
	if ok {
		return found, true, nil
	}
	doc, err := readDocument(ctx, store, d)
	if doc == nil || err != nil {
		return document{}, false, err
	}
	var image Image
	counted := make(map[digest.Digest]bool)
	for _, part := range append(doc.Parts(), d) {
		image.add(part, counted)
	}
	found = document{size: image.Size}
	if doc.Config != nil {
		found.config = string(doc.Config.Digest)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all == nil {
		k.all = make(map[digest.Digest]document)
	}
	k.all[d.Digest] = found
	return found, true, nil
}

// keep forgets all manifests except the listed ones.
func (k *documents) keep(listed map[digest.Digest]int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.all, func(d digest.Digest, _ document) bool { _, ok := listed[d]; return !ok })
}
