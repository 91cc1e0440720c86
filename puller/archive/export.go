package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Export writes the images that refs name, from store, to w as one OCI archive. An OCI
// archive is a tar of an OCI image layout. Without refs, Export writes all images of a
// Store that implements content.Lister. The same images give the same bytes on all
// machines of the same architecture.
//
// The archive also has the manifest.json of docker save, with an entry for each container
// image, so that docker load, podman load and skopeo's docker-archive read the archive
// too. The entry has paths to the same blobs. This format holds one image for a name. If
// several images of an index are stored, the entry is the image for this machine's
// architecture, or else the first complete one. A name with a digest gets no tag in
// manifest.json, because that format has only tags.
//
// Export hashes every blob while it writes the blob. With errors.Is the error matches
//
//   - content.ErrDigestMismatch for a blob in the Store whose content does not have the
//     digest in its name;
//   - fs.ErrNotExist for a name that the Store does not have, and for an image of which
//     content is missing;
//   - content.ErrTooLarge for more images than Import reads, about 10,000.
//
// After an error, the bytes that were written to w are not a complete archive.
func Export(ctx context.Context, store content.Store, w io.Writer, refs ...reference.Reference) error {
	x := &exporter{store: store, tar: tar.NewWriter(w), dirs: make(map[string]bool), buf: make([]byte, ocilayout.HashBuffer)}
	if err := x.run(ctx, refs); err != nil {
		return fail(ctx, "export", err)
	}
	return nil
}

// An exporter writes one archive.
type exporter struct {
	store content.Store
	tar   *tar.Writer
	dirs  map[string]bool // directories whose entries were written
	buf   []byte
}

func (x *exporter) run(ctx context.Context, refs []reference.Reference) error {
	entries, err := x.entries(ctx, refs)
	if err != nil {
		return err
	}
	blobs, err := x.blobs(ctx, entries)
	if err != nil {
		return err
	}
	images, err := x.dockerImages(ctx, entries)
	if err != nil {
		return err
	}
	return x.write(ctx, entries, images, blobs)
}

// entries returns the images to export, in order.
func (x *exporter) entries(ctx context.Context, refs []reference.Reference) ([]content.Entry, error) {
	if len(refs) == 0 {
		lister, ok := x.store.(content.Lister)
		if !ok {
			return nil, fmt.Errorf("a %T does not list its images: pass the names of the images to export", x.store)
		}
		return lister.List(ctx)
	}
	var entries []content.Entry
	for _, ref := range refs {
		if slices.ContainsFunc(entries, func(e content.Entry) bool { return e.Ref == ref }) {
			continue
		}
		desc, err := x.store.Lookup(ctx, ref)
		if err != nil {
			return nil, err
		}
		shown, err := ocilayout.OnlyImage(ctx, x.store, desc)
		if err != nil {
			return nil, err
		}
		entries = append(entries, content.Entry{Ref: ref, Name: ref.String(), Descriptor: desc, Manifest: shown})
	}
	return entries, nil
}

// blobs returns the stored blobs that the entries lead to, in order and without
// repetition.
func (x *exporter) blobs(ctx context.Context, entries []content.Entry) ([]ocispec.Descriptor, error) {
	var blobs []ocispec.Descriptor
	seen := make(map[digest.Digest]bool)
	add := func(desc ocispec.Descriptor, stored bool) {
		if stored {
			blobs = append(blobs, desc)
		}
	}
	for _, e := range entries {
		ok, err := ocilayout.Complete(ctx, x.store, e.Manifest)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, bad(content.ErrNotFound, "export: image %s is not complete in the store: pull it again", quote(e.Name))
		}
		for _, desc := range []ocispec.Descriptor{e.Descriptor, e.Manifest} {
			if err := ocilayout.Walk(ctx, x.store, desc, seen, add); err != nil {
				return nil, err
			}
		}
	}
	return blobs, nil
}

// write writes the archive.
func (x *exporter) write(ctx context.Context, entries []content.Entry, images []dockerImage, blobs []ocispec.Descriptor) error {
	named := make([]ocilayout.Entry, len(entries))
	for i, e := range entries {
		var err error
		if named[i], err = ocilayout.NamedEntry(e.Name, e.Ref, e.Manifest, e.Descriptor); err != nil {
			return err
		}
	}
	list, err := json.Marshal(images)
	if err != nil {
		return err
	}
	files := []struct {
		name string
		data []byte
	}{{ocilayout.LayoutFile, []byte(ocilayout.Layout)}, {ocilayout.IndexFile, ocilayout.NewIndex(named...).Encode()}, {dockerList, list}}
	if len(images) == 0 {
		files = files[:2]
	}
	for _, f := range files {
		if len(f.data) > maxList {
			return bad(content.ErrTooLarge, "export: its %s would have %d bytes, more than the %d that Import reads: name fewer images", f.name, len(f.data), maxList)
		}
	}
	for _, f := range files {
		if err := x.header(f.name, int64(len(f.data))); err != nil {
			return err
		}
		if _, err := x.tar.Write(f.data); err != nil {
			return err
		}
	}
	for _, desc := range blobs {
		if err := x.blob(ctx, desc); err != nil {
			return err
		}
	}
	return x.tar.Close()
}

// header writes the entry of a file. Before it, header writes the entries of the
// directories that the file is in.
func (x *exporter) header(name string, size int64) error {
	for i := range len(name) {
		dir := name[:i] + "/"
		if name[i] != '/' || x.dirs[dir] {
			continue
		}
		x.dirs[dir] = true
		if err := x.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	return x.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size})
}

// blob writes a blob and checks its digest.
func (x *exporter) blob(ctx context.Context, desc ocispec.Descriptor) error {
	r, err := x.store.Open(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := x.header(ocilayout.BlobName(desc.Digest), desc.Size); err != nil {
		return err
	}
	got, n, err := ocilayout.Hash(ctx, desc.Digest, io.TeeReader(io.LimitReader(r, desc.Size), x.tar), x.buf)
	if err != nil {
		return err
	}
	if got != desc.Digest || n != desc.Size {
		return bad(content.ErrDigestMismatch, "export: blob %s is damaged in the store: remove it there (a layout's Repair does) and pull its image again", desc.Digest)
	}
	return nil
}
