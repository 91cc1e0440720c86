package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"google.golang.org/grpc/codes"
)

// List returns the image records of the namespace, sorted by name. It leaves out the record that
// CRI makes for the ID of an image, if the image has another name. The Ref of an Entry is zero if
// another client has given the record a name that is not a whole image name.
func (s *Store) List(ctx context.Context) ([]content.Entry, error) {
	entries, err := s.entries(ctx)
	if err != nil {
		return nil, err
	}
	named := map[digest.Digest]bool{}
	for _, e := range entries {
		named[e.Manifest.Digest] = named[e.Manifest.Digest] || !isDigest(e.Name)
	}
	return slices.DeleteFunc(entries, func(e content.Entry) bool { return isDigest(e.Name) && named[e.Manifest.Digest] }), nil
}

// entries returns all image records.
func (s *Store) entries(ctx context.Context) ([]content.Entry, error) {
	images, err := s.client.list(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(images, func(a, b *imagesapi.Image) int { return strings.Compare(a.GetName(), b.GetName()) })
	shown := map[digest.Digest]ocispec.Descriptor{}
	entries := make([]content.Entry, 0, len(images))
	for _, image := range images {
		desc, err := descriptorOf(image)
		if err != nil {
			return nil, err
		}
		manifest, ok := shown[desc.Digest]
		if !ok {
			manifest, err = ocilayout.OnlyImage(ctx, unheld{s}, desc)
			if errors.Is(err, fs.ErrNotExist) {
				manifest, err = desc, nil
			}
			if err != nil {
				return nil, err
			}
			shown[desc.Digest] = manifest
		}
		e := content.Entry{Name: image.GetName(), Descriptor: desc, Manifest: manifest}
		e.Ref, _ = wholeName(e.Name)
		entries = append(entries, e)
	}
	return entries, nil
}

// RemoveImage removes all image records of one image, including the record for its ID. It then
// waits for containerd's garbage collection, which removes the content and the snapshots that
// nothing else needs. entries are all entries that List returned with the image's Manifest. If
// the image has other names now, the error wraps content.ErrChanged, and nothing is removed. The
// Removal counts content, but not snapshots. RemoveImage does not check whether containers use
// the image. It removes pinned images too, so a garbage collection must leave them out; see
// Pinned.
//
// If the image leads to one of keep, nothing is removed, and the error says so, because in
// containerd content stays only under a name. keep does not bring a name back to content that
// has lost it before; see the package comment.
//
// containerd removes one record after the other. If a pull tags the image under one of its
// names at the same time, that name may be removed after the pull.
func (s *Store) RemoveImage(ctx context.Context, entries []content.Entry, keep []digest.Digest) (removed content.Removal, err error) {
	if len(entries) == 0 {
		return removed, nil
	}
	manifest := entries[0].Manifest
	now, err := s.entries(ctx)
	if err != nil {
		return removed, err
	}
	var remove []content.Entry // all records of the image
	found := 0
	for _, e := range now {
		if e.Manifest.Digest != manifest.Digest {
			continue
		}
		remove = append(remove, e)
		switch listed := slices.ContainsFunc(entries, func(l content.Entry) bool { return l.Name == e.Name && l.Descriptor.Digest == e.Descriptor.Digest }); {
		case listed:
			found++
		case !isDigest(e.Name):
			return removed, fmt.Errorf("containerd: image %.200q: %w", e.Name, content.ErrChanged)
		}
	}
	if found != len(entries) {
		return removed, fmt.Errorf("containerd: image %.200q: %w", entries[0].Name, content.ErrChanged)
	}
	var before []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, e := range remove {
		err := ocilayout.Walk(ctx, unheld{s}, e.Descriptor, seen, func(d ocispec.Descriptor, stored bool) {
			if stored {
				before = append(before, d)
			}
		})
		if err != nil {
			return removed, err
		}
	}
	for _, d := range keep {
		if seen[d] {
			return removed, &content.Error{Reason: content.ErrStore, Err: fmt.Errorf(
				"containerd: image %.200q leads to %s, which is in use and which containerd keeps only under a name: it was not removed", entries[0].Name, d)}
		}
	}
	for i, e := range remove {
		if err := s.client.remove(ctx, e, i == len(remove)-1); err != nil {
			return removed, err
		}
	}
	for _, d := range before {
		has, err := s.client.has(ctx, d)
		if err != nil {
			return removed, err
		}
		if !has {
			removed.Blobs++
			removed.Bytes += d.Size
		}
	}
	return removed, nil
}

// remove removes an image record, if it still leads to the same content. If last is true, it
// waits for the garbage collection.
func (c *client) remove(ctx context.Context, e content.Entry, last bool) error {
	limit := callTime
	if last {
		limit = hashTime
	}
	call, cancel := context.WithTimeoutCause(c.header(ctx, ""), limit, errTooLong)
	defer cancel()
	d := e.Descriptor
	_, err := c.images.Delete(call, &imagesapi.DeleteImageRequest{
		Name: e.Name, Sync: last,
		Target: &types.Descriptor{MediaType: d.MediaType, Digest: string(d.Digest), Size: d.Size}, // before 2.0, containerd ignores it
	}, options...)
	if is(err, codes.NotFound) {
		return nil
	}
	return fail(ctx, err, "remove image %.200q", e.Name)
}

// Pinned reports whether one of the entries has the label by which CRI pins images.
func (s *Store) Pinned(ctx context.Context, entries ...content.Entry) (bool, error) {
	for _, e := range entries {
		image, err := s.client.image(ctx, e.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		if image.GetLabels()[pinLabel] == pinned {
			return true, nil
		}
	}
	return false, nil
}
