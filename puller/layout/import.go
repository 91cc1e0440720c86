package layout

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Limits of an archive: its files, those that are no blobs, whose names are kept
// until its end, and the length of a name with what it links to.
const (
	maxArchiveFiles  = 1 << 20
	maxArchiveOthers = 1 << 16
	maxArchiveName   = 8 << 10
)

// An ImportConfig says what images of an archive are called that do not say it
// themselves.
type ImportConfig struct {
	// Repository, such as registry.example/team/app, is put before a bare tag
	// and before the digest of an image without a name. Zero refuses these.
	Repository string
}

// Import stores the images of an archive, plain or packed with gzip: an OCI
// archive, which is a tar of a layout, or what docker save writes, of old and
// new. It tags them and returns them in the archive's order. All content is
// hashed on its way in; what has another digest than its name says is refused
// with an error of kind content.ErrDigestMismatch. An archive that is no such
// thing is of kind content.ErrBadIndex, a name that is none of kind
// content.ErrBadReference.
//
// Nothing is tagged before all of the archive was read. After an error blobs of
// it may be stored, which Prune finds. Links in the archive are followed within
// it and never made on disk.
func (l *Layout) Import(ctx context.Context, r io.Reader, cfg ImportConfig) ([]Image, error) {
	im := &importer{l: l, cfg: cfg, docs: make(map[string][]byte), spooled: make(map[string]spooled), links: make(map[string]string)}
	defer im.clean()
	images, err := im.run(ctx, r)
	if err != nil {
		return nil, l.failOrCtx(ctx, err, "import")
	}
	return images, nil
}

type importer struct {
	l       *Layout
	cfg     ImportConfig
	docs    map[string][]byte  // index.json and the like
	spooled map[string]spooled // files whose use is not known before the end, by path
	links   map[string]string  // path -> path, within the archive
}

func bad(kind content.Kind, format string, args ...any) error {
	return &content.Error{Kind: kind, Err: fmt.Errorf("archive: "+format, args...)}
}

func (im *importer) run(ctx context.Context, r io.Reader) ([]Image, error) {
	if err := im.readArchive(ctx, r); err != nil {
		return nil, err
	}
	var tags []tagged
	var err error
	switch {
	case im.docs[indexName] != nil:
		tags, err = im.ociImages(ctx)
	case im.docs[dockerName] != nil:
		tags, err = im.dockerImages(ctx)
	default:
		return nil, bad(content.ErrBadIndex, "it has neither %s nor %s: it is no OCI archive, and none of docker save", indexName, dockerName)
	}
	if err != nil {
		return nil, err
	}
	return im.tag(ctx, tags)
}

// A tagged is an image of the archive and what it will be called.
type tagged struct {
	ref  reference.Reference
	desc ocispec.Descriptor
}

func (im *importer) tag(ctx context.Context, tags []tagged) ([]Image, error) {
	images := make([]Image, 0, len(tags))
	for _, t := range tags {
		ok, err := im.l.complete(ctx, t.desc)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, bad(content.ErrBadIndex, "image %q (%s) is not whole", t.ref, t.desc.Digest)
		}
	}
	for _, t := range tags {
		e, err := im.l.entryFor(ctx, t.ref, t.desc)
		if err != nil {
			return nil, err
		}
		img, err := imageOf(e)
		if err != nil {
			return nil, err
		}
		if err := im.l.Tag(ctx, t.ref, t.desc); err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

// readArchive stores the blobs and keeps the documents.
func (im *importer) readArchive(ctx context.Context, r io.Reader) error {
	b := bufio.NewReaderSize(ctxReader{ctx, r}, 64<<10)
	var in io.Reader = b
	if magic, _ := b.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(b)
		if err != nil {
			return bad(content.ErrBadIndex, "%v", err)
		}
		in = z
	}
	tr := tar.NewReader(in)
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return bad(content.ErrBadIndex, "entry %d: %v", n, err)
		}
		if n >= maxArchiveFiles {
			return bad(content.ErrTooLarge, "more than %d files", maxArchiveFiles)
		}
		if err := im.entry(ctx, hdr, archiveReader{tr, hdr.Name}); err != nil {
			return err
		}
	}
}

func (im *importer) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	if len(hdr.Name)+len(hdr.Linkname) > maxArchiveName {
		return bad(content.ErrTooLarge, "a name has more than %d bytes", maxArchiveName)
	}
	name := path.Clean(strings.TrimPrefix(hdr.Name, "/"))
	switch hdr.Typeflag {
	case tar.TypeSymlink, tar.TypeLink:
		if len(im.links) >= maxArchiveOthers {
			return bad(content.ErrTooLarge, "more than %d links", maxArchiveOthers)
		}
		if im.links[name] = path.Clean(hdr.Linkname); hdr.Typeflag == tar.TypeSymlink {
			im.links[name] = path.Join(path.Dir(name), hdr.Linkname)
		}
		return nil
	case tar.TypeReg:
	default:
		return nil
	}
	switch name {
	case layoutName, indexName, dockerName:
		limit := int64(maxDocument)
		if name == indexName {
			limit = maxIndexSize
		}
		if hdr.Size > limit {
			return bad(content.ErrTooLarge, "%s has %d bytes, more than %d", name, hdr.Size, limit)
		}
		data, err := io.ReadAll(r)
		im.docs[name] = data
		return err
	}
	if rest, ok := strings.CutPrefix(name, blobsDir+"/"); ok {
		d := digest.Digest(strings.Replace(rest, "/", ":", 1))
		if verify.Digest(d) == nil {
			return im.blob(ctx, ocispec.Descriptor{Digest: d, Size: hdr.Size}, r)
		}
		return nil // nothing can name it
	}
	if len(im.spooled) >= maxArchiveOthers {
		return bad(content.ErrTooLarge, "more than %d files that are no blobs", maxArchiveOthers)
	}
	return im.spool(ctx, name, hdr.Size, r)
}

// An archiveReader says of its errors that they are the archive's, not the store's.
type archiveReader struct {
	r    io.Reader
	name string
}

func (a archiveReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if err != nil && err != io.EOF && content.KindOf(err) == "" && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = bad(content.ErrBadIndex, "%.200q: %w", a.name, err)
	}
	return n, err
}

// blob stores content that is named by its digest.
func (im *importer) blob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	in, err := im.l.Ingest(ctx, desc)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	got, n, err := copyHash(ctx, desc.Digest, in, r)
	if err != nil {
		return err
	}
	if got != desc.Digest || n != desc.Size {
		in.Discard()
		return &content.Error{Kind: content.ErrDigestMismatch, Err: fmt.Errorf("archive: blob %s has content with digest %s", desc.Digest, got)}
	}
	return in.Commit(ctx)
}

// copyHash writes r to w and gives the digest of it.
func copyHash(ctx context.Context, d digest.Digest, w io.WriterAt, r io.Reader) (digest.Digest, int64, error) {
	return hashOf(ctx, d, io.TeeReader(r, io.NewOffsetWriter(w, 0)))
}

// ociImages are the entries of the archive's index.json.
func (im *importer) ociImages(ctx context.Context) ([]tagged, error) {
	if _, err := parseLayoutVersion(im.docs[layoutName]); err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w", layoutName, err)
	}
	ix, err := parseIndex(im.docs[indexName])
	if err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w", indexName, err)
	}
	tags := make([]tagged, 0, len(ix.entries))
	for _, e := range ix.entries {
		desc, err := im.l.target(ctx, e.raw)
		if kind := content.KindOf(err); err != nil && (kind == "" || kind == content.ErrBadDigest || kind == content.ErrSizeMismatch) && ctx.Err() == nil {
			err = &content.Error{Kind: content.ErrBadIndex, Err: fmt.Errorf("archive: %w", err)}
		}
		if err != nil {
			return nil, err
		}
		ref, err := im.name(e.name, desc)
		if err != nil {
			return nil, err
		}
		tags = append(tags, tagged{ref, desc})
	}
	return tags, nil
}

// name is what an image is called: a whole name as it is, a bare tag or nothing
// under Config.Repository.
func (im *importer) name(name string, desc ocispec.Descriptor) (reference.Reference, error) {
	whole := name
	if !strings.ContainsAny(name, ":/@") {
		if im.cfg.Repository == "" {
			return reference.Reference{}, bad(content.ErrBadReference,
				"image %s is called %.80q, which is no whole name: set ImportConfig.Repository", desc.Digest, name)
		}
		if whole = im.cfg.Repository + ":" + name; name == "" {
			whole = im.cfg.Repository + "@" + string(desc.Digest)
		}
	}
	ref, err := reference.Parse(whole)
	if err != nil {
		return reference.Reference{}, &content.Error{Kind: content.ErrBadReference, Err: fmt.Errorf("archive: image %s: %w", desc.Digest, err)}
	}
	return ref, nil
}

func unmarshal(name string, data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return bad(content.ErrBadIndex, "%.200q: %w", name, err)
	}
	return nil
}
