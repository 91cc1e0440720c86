package layout

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Export writes an OCI archive, which is a tar of a layout, with the named
// images, or with all of index.json if none is named. The same images give the
// same bytes. Every blob is hashed as it is written: content that is not right
// ends the export with an error of kind content.ErrDigestMismatch, and so do, with
// fs.ErrNotExist, a name that is not tagged and an image that is not whole.
func (l *Layout) Export(ctx context.Context, w io.Writer, refs ...reference.Reference) error {
	ix, err := l.readIndex()
	if err != nil {
		return err
	}
	out := emptyIndex()
	for _, ref := range refs {
		i, ok := ix.byName[ref.String()]
		if !ok || ref.IsZero() {
			return l.notFound("no image %q", ref)
		}
		out.set(ix.entries[i])
	}
	if len(refs) == 0 {
		out.entries = ix.entries
	}
	blobs, err := l.exported(ctx, out.entries)
	if err != nil {
		return l.failOrCtx(ctx, err, "export")
	}
	x := &exporter{l: l, tw: tar.NewWriter(w), dirs: make(map[string]bool)}
	if err := x.all(ctx, out, blobs); err != nil {
		return l.failOrCtx(ctx, err, "export")
	}
	return nil
}

// exported lists the blobs that the entries lead to and that are stored, each once, in order.
func (l *Layout) exported(ctx context.Context, entries []entry) ([]ocispec.Descriptor, error) {
	var blobs []ocispec.Descriptor
	seen := make(map[digest.Digest]bool)
	add := func(desc ocispec.Descriptor) error {
		for todo := []ocispec.Descriptor{desc}; len(todo) > 0; {
			desc := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if seen[desc.Digest] || checkDesc(desc) != nil {
				continue
			}
			seen[desc.Digest] = true
			doc, err := l.document(ctx, desc)
			switch {
			case err == nil:
				next := append(doc.Manifests, doc.parts()...)
				slices.Reverse(next) // the first comes next
				todo = append(todo, next...)
			case errors.Is(err, fs.ErrNotExist):
				continue // the part of another platform
			case errors.Is(err, errNoDocument):
				ok, err := l.has(ctx, desc)
				if err != nil {
					return err
				}
				if !ok {
					continue
				}
			default:
				return err
			}
			blobs = append(blobs, desc)
		}
		return nil
	}
	for _, e := range entries {
		shown, resolved, err := decodeEntry(e.raw)
		if err != nil {
			return nil, err
		}
		ok, err := l.complete(ctx, shown)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, l.notFound("image %.300q is not whole: pull it again", e.name)
		}
		for _, desc := range []ocispec.Descriptor{resolved, shown} {
			if err := add(desc); err != nil {
				return nil, err
			}
		}
	}
	return blobs, nil
}

type exporter struct {
	l    *Layout
	tw   *tar.Writer
	dirs map[string]bool // written
}

func (x *exporter) all(ctx context.Context, ix *indexFile, blobs []ocispec.Descriptor) error {
	if err := x.file(layoutName, []byte(layoutVersion)); err != nil {
		return err
	}
	if err := x.file(indexName, ix.encode()); err != nil {
		return err
	}
	for _, desc := range blobs {
		if err := x.blob(ctx, desc); err != nil {
			return err
		}
	}
	return x.tw.Close()
}

func (x *exporter) file(name string, data []byte) error {
	if err := x.header(name, int64(len(data))); err != nil {
		return err
	}
	_, err := x.tw.Write(data)
	return err
}

func (x *exporter) header(name string, size int64) error {
	for i := range len(name) {
		dir := name[:i] + "/"
		if name[i] != '/' || x.dirs[dir] {
			continue
		}
		x.dirs[dir] = true
		if err := x.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	return x.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size})
}

func (x *exporter) blob(ctx context.Context, desc ocispec.Descriptor) error {
	r, err := x.l.Open(ctx, desc)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := x.header(blobName(desc.Digest), desc.Size); err != nil {
		return err
	}
	got, n, err := hashOf(ctx, desc.Digest, io.TeeReader(io.LimitReader(r, desc.Size), x.tw))
	if err != nil {
		return err
	}
	if got != desc.Digest || n != desc.Size {
		return &content.Error{
			Kind: content.ErrDigestMismatch,
			Err:  fmt.Errorf("layout %q: blob %s is damaged: run Verify and pull its image again", x.l.dir, desc.Digest),
		}
	}
	return nil
}
