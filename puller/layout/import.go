package layout

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Limits of an archive: its files, those that are no blobs, whose names are kept
// until its end, the length of a name with what it links to, the sum of the names
// that are kept, its lists of images, the images in one of them, their layers and
// tags, and the holes of its files.
const (
	maxArchiveFiles  = 1 << 20
	maxArchiveOthers = 1 << 16
	maxArchiveName   = 8 << 10
	maxArchiveNames  = 16 << 20
	maxArchiveList   = 8 << 20
	maxArchiveImages = 1 << 16
	maxArchiveParts  = 1 << 18
	maxArchiveHoles  = 1 << 30 // bytes of zeros that sparse files leave out
)

// An ImportConfig says what images of an archive are called that do not say it
// themselves.
type ImportConfig struct {
	// Repository, such as registry.example/team/app, is put before a bare tag
	// and before the digest of an image without a name. Zero refuses these.
	Repository string
}

// Import stores the images of an archive, plain or packed with gzip or bzip2: an
// OCI archive, which is a tar of a layout, or what docker save writes, of old and
// new. It tags them and returns them in the archive's order. All content is
// hashed on its way in; what has another digest than its name says is refused
// with an error of kind content.ErrDigestMismatch. An archive that is no such
// thing is of kind content.ErrBadIndex, and the error says what it seems to be and what
// to do. A name that is none is of kind content.ErrBadReference, an archive with more or
// longer names than any that a program writes, or with more than 1 GiB of holes in its
// files, of kind content.ErrTooLarge. The error wraps fs.ErrNotExist if
// another process removed what the archive brought: Import it again.
//
// An image is called what its entry's ref.name annotation says; Lookup says when
// io.containerd.image.name counts, which here is also taken where there is no
// ref.name. A name without a registry is one of Docker Hub's, unless it is a bare tag.
//
// Nothing is tagged before all of the archive was read. After an error blobs of
// it may be stored, which Prune finds. Links in the archive are followed within
// it and never made on disk.
func (l *Layout) Import(ctx context.Context, r io.Reader, cfg ImportConfig) ([]Image, error) {
	im := newImporter(l, cfg)
	defer im.clean()
	images, err := im.run(ctx, r)
	if err != nil {
		return nil, l.failOrCtx(ctx, err, "import")
	}
	return images, nil
}

func newImporter(l *Layout, cfg ImportConfig) *importer {
	return &importer{
		l: l, cfg: cfg, buf: make([]byte, hashBuffer),
		docs: make(map[string][]byte), spooled: make(map[string]spooled), links: make(map[string]string),
		brought: make(map[uint64]struct{}), holes: maxArchiveHoles,
	}
}

type importer struct {
	l       *Layout
	cfg     ImportConfig
	buf     []byte
	docs    map[string][]byte   // index.json and the like
	spooled map[string]spooled  // files whose use is not known before the end, by path
	links   map[string]string   // path -> path, within the archive
	names   int                 // bytes of the names in spooled and links
	brought map[uint64]struct{} // the blobs of the archive, by the beginnings of their digests
	holes   int64               // how many bytes of holes may still come
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
		return nil, im.notAnArchive()
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
			return nil, im.notWhole(ctx, t)
		}
	}
	for _, t := range tags {
		e, err := im.l.entryFor(ctx, t.ref, t.desc)
		if err != nil {
			return nil, err
		}
		img := Image{Ref: t.ref, Name: e.name}
		if img.Manifest, img.Descriptor, err = decodeEntry(e.raw); err != nil {
			return nil, err
		}
		if err := im.l.Tag(ctx, t.ref, t.desc); err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

// notWhole says who is at fault for an image of which something is missing: the
// archive, or another process that removed what the archive brought.
func (im *importer) notWhole(ctx context.Context, t tagged) error {
	missing, removed := digest.Digest(""), false
	err := im.l.walk(ctx, t.desc, make(map[digest.Digest]bool), func(desc ocispec.Descriptor, stored bool) {
		if !stored && !removed {
			missing, removed = desc.Digest, im.brings(desc.Digest)
		}
	})
	if err != nil {
		return err
	}
	if removed {
		return im.removed(missing)
	}
	return bad(content.ErrBadIndex, "image %q (%s) is not whole: %s is not in it", t.ref, t.desc.Digest, missing)
}

func (im *importer) removed(d digest.Digest) error {
	return im.l.notFound("import: another process removed blob %s, which the archive has: import it again", d)
}

// bring notes that the archive has a blob.
func (im *importer) bring(d digest.Digest) { im.brought[beginning(d)] = struct{}{} }

func (im *importer) brings(d digest.Digest) bool {
	_, ok := im.brought[beginning(d)]
	return ok
}

// beginning is the first 64 bits of a digest: an archive may have a million.
func beginning(d digest.Digest) uint64 {
	if verify.Digest(d) != nil {
		return 0
	}
	n, _ := strconv.ParseUint(d.Encoded()[:16], 16, 64)
	return n
}

// readArchive stores the blobs and keeps the documents.
func (im *importer) readArchive(ctx context.Context, r io.Reader) error {
	in, err := unpack(bufio.NewReaderSize(ctxReader{ctx, r}, packedBuffer))
	if err != nil {
		return err
	}
	count := &countingReader{r: in.r}
	tr := tar.NewReader(count)
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		switch {
		case err == nil:
		case err == io.EOF && n == 0:
			return bad(content.ErrBadIndex, "%s has no files", in.subject())
		case err == io.EOF:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case content.KindOf(err) != "":
			return err // the reader's own
		case n == 0 && (errors.Is(err, tar.ErrHeader) || in.short):
			return bad(content.ErrBadIndex, "%s is not a tar archive: it begins with %q", in.subject(), in.begin)
		default:
			return bad(content.ErrBadIndex, "entry %d: %w", n, err)
		}
		if n >= maxArchiveFiles {
			return bad(content.ErrTooLarge, "more than %d files", maxArchiveFiles)
		}
		if err := im.entry(ctx, hdr, &fileReader{im: im, name: hdr.Name, tar: tr, count: count, start: count.n}); err != nil {
			return err
		}
	}
}

// notAnArchive says what a tar is that has neither list of images, as far as its
// names tell.
func (im *importer) notAnArchive() error {
	names := slices.Sorted(maps.Keys(im.spooled))
	for _, name := range names {
		dir, base := path.Split(name)
		if dir = path.Clean(dir); dir != "." && (base == indexName && im.has(dir+"/"+layoutName) || base == dockerName) {
			return bad(content.ErrBadIndex, "it has %.200q: pack what is in the directory %.200q, not the directory", name, dir)
		}
	}
	switch {
	case len(names) == 1 && isArchiveName(names[0]):
		return bad(content.ErrBadIndex, "it holds the one file %.200q: unpack it, and import that", names[0])
	case im.has(".dockerenv"):
		return bad(content.ErrBadIndex, "it is the file system of a container, as docker export writes it: use docker save")
	}
	return bad(content.ErrBadIndex, "it has neither %s nor %s: it is not an OCI archive, and not one of docker save", indexName, dockerName)
}

// has reports whether the archive has a file with that name that is not a blob.
func (im *importer) has(name string) bool {
	_, ok := im.spooled[name]
	return ok
}

func isArchiveName(name string) bool {
	base := path.Base(name)
	return strings.Contains(base, ".tar") || strings.HasSuffix(base, ".tgz") || strings.HasSuffix(base, ".tbz2") || strings.HasSuffix(base, ".txz")
}

// keepName makes room for a name that is kept to the end, within the limit of all.
func (im *importer) keepName(names ...string) error {
	for _, name := range names {
		im.names += len(name)
	}
	if im.names > maxArchiveNames {
		return bad(content.ErrTooLarge, "the names of its files that are no blobs have more than %d bytes", maxArchiveNames)
	}
	return nil
}

func (im *importer) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	if len(hdr.Name)+len(hdr.Linkname) > maxArchiveName {
		return bad(content.ErrTooLarge, "a name has more than %d bytes", maxArchiveName)
	}
	name := path.Clean(strings.TrimPrefix(hdr.Name, "/"))
	switch hdr.Typeflag {
	case tar.TypeSymlink, tar.TypeLink:
		return im.link(hdr, name)
	case tar.TypeReg, tar.TypeGNUSparse:
	default:
		return nil
	}
	switch name {
	case layoutName, indexName, dockerName:
		return im.document(name, hdr.Size, r)
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
	if err := im.keepName(name); err != nil {
		return err
	}
	// A part of a long header would keep all of it.
	return im.spool(ctx, strings.Clone(name), hdr.Size, r)
}

func (im *importer) link(hdr *tar.Header, name string) error {
	if len(im.links) >= maxArchiveOthers {
		return bad(content.ErrTooLarge, "more than %d links", maxArchiveOthers)
	}
	to := path.Clean(hdr.Linkname)
	if hdr.Typeflag == tar.TypeSymlink {
		to = path.Join(path.Dir(name), hdr.Linkname)
	}
	if err := im.keepName(name, to); err != nil {
		return err
	}
	im.links[strings.Clone(name)] = strings.Clone(to)
	return nil
}

// document keeps a file that says what is in the archive.
func (im *importer) document(name string, size int64, r io.Reader) error {
	if name == dockerName && im.docs[indexName] != nil {
		return nil // which says the same of the same images
	}
	limit := int64(maxArchiveList)
	if name == layoutName {
		limit = 64 << 10
	}
	if size > limit {
		return bad(content.ErrTooLarge, "%s has %d bytes, more than %d", name, size, limit)
	}
	data := make([]byte, size)
	_, err := io.ReadFull(r, data)
	im.docs[name] = data
	return err
}

// A countingReader knows how many bytes were read from it.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// A fileReader reads one file of the archive. Its errors say that they are the
// archive's, not the store's. It ends when the archive has too many holes: bytes that
// were read from the file without being in the tar.
type fileReader struct {
	im    *importer
	name  string
	tar   *tar.Reader
	count *countingReader // what tar reads
	start int64           // its count at the beginning of the file
	read  int64           // bytes of the file
	holes int64           // those of them that were not in the tar
}

func (f *fileReader) Read(p []byte) (int, error) {
	n, err := f.tar.Read(p)
	f.read += int64(n)
	holes := max(f.holes, f.read-(f.count.n-f.start))
	f.im.holes -= holes - f.holes
	f.holes = holes
	if f.im.holes < 0 {
		return n, bad(content.ErrTooLarge, "%.200q: its files have more than %d bytes of holes: pack it without --sparse", f.name, maxArchiveHoles)
	}
	if err != nil && err != io.EOF && content.KindOf(err) == "" && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = bad(content.ErrBadIndex, "%.200q: %w", f.name, err)
	}
	return n, err
}

// blob stores content that is named by its digest.
func (im *importer) blob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	im.bring(desc.Digest)
	in, err := im.l.Ingest(ctx, desc)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	got, n, err := im.copyHash(ctx, desc.Digest, in, r)
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
func (im *importer) copyHash(ctx context.Context, d digest.Digest, w io.WriterAt, r io.Reader) (digest.Digest, int64, error) {
	return hashWith(ctx, d, io.TeeReader(r, io.NewOffsetWriter(w, 0)), im.buf)
}

// ociImages are the entries of the archive's index.json.
func (im *importer) ociImages(ctx context.Context) ([]tagged, error) {
	if _, err := parseLayoutVersion(im.docs[layoutName]); err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w", layoutName, err)
	}
	ix, err := parseIndex(im.docs[indexName], maxArchiveImages)
	if err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w", indexName, err)
	}
	tags := make([]tagged, 0, len(ix.entries))
	for i, e := range ix.entries {
		name, ok := ix.importName(i)
		if !ok {
			continue
		}
		desc, err := im.l.target(ctx, ix, e.raw)
		if kind := content.KindOf(err); err != nil && (kind == "" || kind == content.ErrBadDigest || kind == content.ErrSizeMismatch) && ctx.Err() == nil {
			err = &content.Error{Kind: content.ErrBadIndex, Err: fmt.Errorf("archive: %w", err)}
		}
		if err != nil {
			return nil, err
		}
		ref, err := im.name(name, desc)
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
