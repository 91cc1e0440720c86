package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/expiring"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

const (
	// maxDocuments is how many parsed documents are kept in memory. documentTime is for how
	// long they are kept. A document with more than maxKept descriptors is read again each
	// time. Most documents have about 10 descriptors, and few have more than 128.
	maxDocuments = 4096
	documentTime = time.Hour
	maxKept      = 200
	// maxParts is how many of the blobs that a manifest names are served; see records.Access.
	maxParts = 4096
	// maxLevels is how many levels of indexes are read: as many as a pull follows. maxBelow
	// is how many documents below one name are read.
	maxLevels = 5
	maxBelow  = 64
)

// A catalog finds the images that name a blob. A Store finds images only by name.
type catalog struct {
	store     content.Lister
	documents expiring.Map[digest.Digest, *ocilayout.Document]
	lists     fresh[*listing]
}

func (c *catalog) init(store content.Lister) {
	c.store = store
	c.documents.Max = maxDocuments
	c.lists.load = c.list
}

// A listing has the names that the Store had at one time, by repository.
type listing struct {
	catalog *catalog
	entries map[string][]content.Entry

	mu      sync.Mutex
	holders map[string]map[digest.Digest][]holder // by repository and blob; filled when a blob of the repository is asked for
	failed  map[string]error                      // why an image of the repository could not be read
}

// A holder is an image of which a manifest names a blob.
type holder struct {
	ref  reference.Reference // its name in the Store
	top  ocispec.Descriptor  // what the name points to
	leaf ocispec.Descriptor  // the manifest that names the blob
	blob ocispec.Descriptor
}

// list lists the names of the Store.
func (c *catalog) list(ctx context.Context) (*listing, error) {
	all, err := c.store.List(ctx)
	if err != nil {
		return nil, err
	}
	l := &listing{catalog: c, entries: map[string][]content.Entry{}, holders: map[string]map[digest.Digest][]holder{}, failed: map[string]error{}}
	for _, e := range all {
		if !e.Ref.IsZero() {
			l.entries[e.Ref.Name()] = append(l.entries[e.Ref.Name()], e)
		}
	}
	return l, nil
}

// holding returns the images of a repository that name a blob. If an image cannot be read,
// holding returns its error only if no other image names the blob.
func (l *listing) holding(ctx context.Context, repository string, blob digest.Digest) ([]holder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, ok := l.holders[repository]
	if !ok {
		all = map[digest.Digest][]holder{}
		for _, e := range l.entries[repository] {
			if err := l.catalog.addHolders(ctx, all, e); err != nil {
				if ctx.Err() != nil {
					return nil, err
				}
				l.failed[repository] = fmt.Errorf("image %s: %w", e.Ref, err)
			}
		}
		l.holders[repository] = all
	}
	if len(all[blob]) == 0 {
		return nil, l.failed[repository]
	}
	return all[blob], nil
}

// addHolders adds one image to the holders of its blobs.
func (c *catalog) addHolders(ctx context.Context, all map[digest.Digest][]holder, e content.Entry) error {
	leaves, err := c.leaves(ctx, e.Descriptor)
	if err != nil {
		return err
	}
	for _, leaf := range leaves {
		doc, err := c.document(ctx, leaf)
		if err != nil {
			return err
		}
		if doc == nil {
			continue
		}
		parts := doc.Parts()
		for _, d := range parts[:min(len(parts), maxParts)] {
			if same := all[d.Digest]; len(same) < maxBelow {
				all[d.Digest] = append(same, holder{ref: e.Ref, top: e.Descriptor, leaf: leaf, blob: d})
			}
		}
	}
	return nil
}

// document returns a stored manifest or index. It returns nil if the content is not
// stored, or is neither a manifest nor an index.
func (c *catalog) document(ctx context.Context, desc ocispec.Descriptor) (*ocilayout.Document, error) {
	if doc, ok := c.documents.Get(desc.Digest); ok {
		return doc, nil
	}
	doc, err := ocilayout.Read(ctx, c.store, desc)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ocilayout.ErrNoDocument):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if len(doc.Manifests)+len(doc.Parts()) <= maxKept {
		c.documents.Put(desc.Digest, doc, time.Now().Add(documentTime))
	}
	return doc, nil
}

// leaves returns the stored manifests that a manifest or an index leads to.
func (c *catalog) leaves(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if !mediatype.IsIndex(desc.MediaType) {
		return []ocispec.Descriptor{desc}, nil
	}
	var leaves []ocispec.Descriptor
	level := []ocispec.Descriptor{desc}
	seen := map[digest.Digest]bool{desc.Digest: true}
	for range maxLevels {
		var below []ocispec.Descriptor
		for _, index := range level {
			doc, err := c.document(ctx, index)
			if err != nil {
				return nil, err
			}
			if doc == nil {
				continue
			}
			for _, child := range doc.Manifests {
				if seen[child.Digest] || len(seen) > maxBelow {
					continue
				}
				has, err := c.has(ctx, child)
				if err != nil {
					return nil, err
				}
				if !has {
					continue
				}
				seen[child.Digest] = true
				if mediatype.IsIndex(child.MediaType) {
					below = append(below, child)
				} else {
					leaves = append(leaves, child)
				}
			}
		}
		level = below
	}
	return leaves, nil
}

// has reports whether the Store has the content of a descriptor. The descriptor can be
// malformed, because the document that has it can come from any registry.
func (c *catalog) has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if ocilayout.CheckDescriptor(desc) != nil {
		return false, nil
	}
	return c.store.Has(ctx, desc)
}
