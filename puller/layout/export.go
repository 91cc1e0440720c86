package layout

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Export writes an OCI archive, which is a tar of a layout, with the named
// images, or with all of index.json if none is named. The same images give the
// same bytes on machines of the same architecture.
//
// Beside index.json there is the manifest.json of docker save, with an entry for
// each container image, so that docker load, podman load and skopeo's
// docker-archive read the archive too. It has paths to the same blobs. An index of
// which several images are stored is there as the one for this machine's
// architecture, or else as the first. A name with a digest gives no tag there:
// that format has tags only.
//
// Every blob is hashed as it is written: content that is not right
// ends the export with an error of kind content.ErrDigestMismatch, and so do, with
// fs.ErrNotExist, a name that is not tagged and an image that is not whole. More
// images than Import reads, some 10,000, are of kind content.ErrTooLarge.
func (l *Layout) Export(ctx context.Context, w io.Writer, refs ...reference.Reference) error {
	ix, err := l.readIndex()
	if err != nil {
		return err
	}
	out := emptyIndex()
	for _, ref := range refs {
		i, ok := ix.byRef[ref.String()]
		if !ok || ref.IsZero() {
			return l.notFound("no image %q", ref)
		}
		e := ix.unambiguous(i)
		if !slices.ContainsFunc(out.entries, func(x entry) bool { return x.ref == e.ref }) {
			out.entries = append(out.entries, e)
		}
	}
	if len(refs) == 0 {
		for i := range ix.entries {
			out.entries = append(out.entries, ix.unambiguous(i))
		}
	}
	out.number()
	blobs, err := l.exported(ctx, out)
	if err != nil {
		return l.failOrCtx(ctx, err, "export")
	}
	images, err := l.savedImages(ctx, out)
	if err != nil {
		return l.failOrCtx(ctx, err, "export")
	}
	x := &exporter{l: l, tw: tar.NewWriter(w), dirs: make(map[string]bool), buf: make([]byte, hashBuffer)}
	if err := x.all(ctx, out, images, blobs); err != nil {
		return l.failOrCtx(ctx, err, "export")
	}
	return nil
}

// exported lists the blobs that the entries lead to and that are stored, each once, in order.
func (l *Layout) exported(ctx context.Context, ix *indexFile) ([]ocispec.Descriptor, error) {
	var blobs []ocispec.Descriptor
	seen := make(map[digest.Digest]bool)
	add := func(desc ocispec.Descriptor, stored bool) {
		if stored {
			blobs = append(blobs, desc)
		}
	}
	for _, e := range ix.entries {
		shown, resolved, err := l.resolve(ctx, ix, e.raw)
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
			if err := l.walk(ctx, desc, seen, add); err != nil {
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
	buf  []byte
}

func (x *exporter) all(ctx context.Context, ix *indexFile, images []dockerImage, blobs []ocispec.Descriptor) error {
	list, err := json.Marshal(images)
	if err != nil {
		return err
	}
	index := ix.encode()
	for name, size := range map[string]int{indexName: len(index), dockerName: len(list)} {
		if size > maxArchiveList {
			return &content.Error{Kind: content.ErrTooLarge, Err: fmt.Errorf(
				"layout %q: export: the archive's %s would have %d bytes, more than the %d that Import reads: name fewer images", x.l.dir, name, size, maxArchiveList)}
		}
	}
	if err := x.file(layoutName, []byte(layoutVersion)); err != nil {
		return err
	}
	if err := x.file(indexName, index); err != nil {
		return err
	}
	if len(images) > 0 {
		if err := x.file(dockerName, list); err != nil {
			return err
		}
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
	got, n, err := hashWith(ctx, desc.Digest, io.TeeReader(io.LimitReader(r, desc.Size), x.tw), x.buf)
	if err != nil {
		return err
	}
	if got != desc.Digest || n != desc.Size {
		return &content.Error{
			Kind: content.ErrDigestMismatch,
			Err:  fmt.Errorf("layout %q: blob %s is damaged: run Repair and pull its image again", x.l.dir, desc.Digest),
		}
	}
	return nil
}
