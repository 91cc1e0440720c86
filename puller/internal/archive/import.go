package archive

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/hex"
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
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Limits of an archive. Each is more than any program writes.
const (
	maxFiles     = 1 << 20
	maxOthers    = 1 << 16  // files that are not blobs, and links; their names are kept until the end
	maxName      = 8 << 10  // bytes of a name with what it links to
	maxNames     = 16 << 20 // bytes of the names that are kept
	maxList      = 8 << 20  // bytes of index.json and of manifest.json
	maxImages    = 1 << 16  // in one list
	maxParts     = 1 << 18  // layers and tags in one manifest.json
	maxHoles     = 1 << 30  // bytes of zeros that sparse files leave out
	maxLinkSteps = 8
)

// A Config says what images of an archive are called that do not say it themselves.
type Config struct {
	// Repository, such as registry.example/team/app, is put before a bare tag
	// and before the digest of an image without a name. Zero refuses these.
	Repository string
}

// Import stores the images of an archive in a Store, tags them, and returns them in the
// archive's order. The archive is plain or packed with gzip or bzip2. It is an OCI
// archive, which is a tar of an OCI image layout, or what docker save of any age writes.
//
// All content is hashed on its way in. Content with another digest than its name says is
// refused with an error of kind content.ErrDigestMismatch. Bytes that are not such an
// archive are of kind content.ErrBadIndex, and the error says what they seem to be and
// what to do. A name that is not a valid image name is of kind content.ErrBadReference.
// An archive with more or longer names than any program writes, or with more than 1 GiB
// of holes in its files, is of kind content.ErrTooLarge. The error wraps fs.ErrNotExist
// if another process removed from the Store what the archive brought: Import it again.
//
// An image is called what the ref.name annotation of its entry says. The
// io.containerd.image.name annotation counts where ref.name is its tag alone, and where
// there is no ref.name. A name without a registry is one of Docker Hub's, unless it is a
// bare tag.
//
// Nothing is tagged before the whole archive was read. After an error, blobs of the
// archive may be stored without a name. Links in the archive are followed within the
// archive. No file is written outside the Store: a file whose digest is not known before
// the end, as in older archives of docker save, is kept as an unfinished ingest.
func Import(ctx context.Context, store content.Store, r io.Reader, cfg Config) ([]Entry, error) {
	im := newImporter(store, cfg)
	defer im.clean(ctx)
	entries, err := im.run(ctx, r)
	if err != nil {
		return nil, fail(ctx, "import", err)
	}
	return entries, nil
}

// bad is an error about the archive.
func bad(kind content.Kind, format string, args ...any) error {
	return &content.Error{Kind: kind, Err: fmt.Errorf("archive: "+format, args...)}
}

// fail says what was done, of an error that does not say it itself.
func fail(ctx context.Context, what string, err error) error {
	if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) || content.KindOf(err) != "" {
		return err
	}
	return fmt.Errorf("archive: %s: %w", what, err)
}

// quote shows a name of the archive in an error.
func quote(name string) string { return redact.Quote(name, 200) }

// An importer reads one archive.
type importer struct {
	store   content.Store
	cfg     Config
	buf     []byte
	docs    map[string][]byte      // index.json and the like
	others  map[string]scratchFile // files whose use is not known before the end, by path
	links   map[string]string      // path -> path, within the archive
	names   int                    // bytes of the names in others and links
	holes   int64                  // how many bytes of holes its files may have
	brought map[uint64]int64       // the sizes of the archive's blobs, by the beginnings of their digests
}

func newImporter(store content.Store, cfg Config) *importer {
	return &importer{
		store: store, cfg: cfg, buf: make([]byte, ocilayout.HashBuffer),
		docs: make(map[string][]byte), others: make(map[string]scratchFile), links: make(map[string]string),
		holes: maxHoles, brought: make(map[uint64]int64),
	}
}

func (im *importer) run(ctx context.Context, r io.Reader) ([]Entry, error) {
	t, err := openTar(ocilayout.ContextReader{Ctx: ctx, R: r}, im.holes)
	if err != nil {
		return nil, err
	}
	if err := im.readAll(ctx, t); err != nil {
		return nil, err
	}
	images, err := im.images(ctx)
	if err != nil {
		return nil, err
	}
	return im.tag(ctx, images)
}

// An image is what the archive calls ref.
type image struct {
	ref  reference.Reference
	desc ocispec.Descriptor
}

// images are those that the archive's list names, stored.
func (im *importer) images(ctx context.Context) ([]image, error) {
	switch {
	case im.docs[ocilayout.IndexFile] != nil:
		return im.ociImages(ctx)
	case im.docs[dockerList] != nil:
		return im.dockerImages(ctx)
	}
	return nil, im.notAnArchive()
}

// notAnArchive says what a tar seems to be that has neither list of images.
func (im *importer) notAnArchive() error {
	has := func(name string) bool {
		_, ok := im.others[name]
		return ok
	}
	names := slices.Sorted(maps.Keys(im.others))
	for _, name := range names {
		dir, base := path.Split(name)
		if dir = path.Clean(dir); dir != "." && (base == ocilayout.IndexFile && has(dir+"/"+ocilayout.LayoutFile) || base == dockerList) {
			return bad(content.ErrBadIndex, "it has %s: pack what is in the directory %s, not the directory", quote(name), quote(dir))
		}
	}
	switch {
	case len(names) == 1 && isArchiveName(path.Base(names[0])):
		return bad(content.ErrBadIndex, "it holds the one file %s: unpack it, and import that", quote(names[0]))
	case has(".dockerenv"):
		return bad(content.ErrBadIndex, "it is the file system of a container, as docker export writes it: use docker save")
	}
	return bad(content.ErrBadIndex, "it has neither %s nor %s: it is not an OCI archive, and not one of docker save", ocilayout.IndexFile, dockerList)
}

func isArchiveName(name string) bool {
	return strings.Contains(name, ".tar") || strings.HasSuffix(name, ".tgz") || strings.HasSuffix(name, ".tbz2") || strings.HasSuffix(name, ".txz")
}

// tag gives the images their names, once all of them are known to be whole.
func (im *importer) tag(ctx context.Context, images []image) ([]Entry, error) {
	entries := make([]Entry, 0, len(images))
	for _, img := range images {
		ok, err := ocilayout.Complete(ctx, im.store, img.desc)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, im.notWhole(ctx, img)
		}
	}
	for _, img := range images {
		shown, err := ocilayout.OnlyImage(ctx, im.store, img.desc)
		if err != nil {
			return nil, err
		}
		if err := im.store.Tag(ctx, img.ref, img.desc); err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Ref: img.ref, Name: img.ref.String(), Descriptor: img.desc, Manifest: shown})
	}
	return entries, nil
}

// notWhole says who is at fault for an image of which something is missing: the
// archive, or another process that removed what the archive brought.
func (im *importer) notWhole(ctx context.Context, img image) error {
	missing, removed := digest.Digest(""), false
	err := ocilayout.Walk(ctx, im.store, img.desc, make(map[digest.Digest]bool), func(desc ocispec.Descriptor, stored bool) {
		if !stored && !removed {
			_, removed = im.brought[beginning(desc.Digest)]
			missing = desc.Digest
		}
	})
	if err != nil {
		return err
	}
	if removed {
		return removedError(missing)
	}
	return bad(content.ErrBadIndex, "image %q (%s) is not whole: %s is not in it", img.ref, img.desc.Digest, missing)
}

func removedError(d digest.Digest) error {
	return bad(content.ErrNotFound, "another process removed blob %s, which the archive has: import it again", d)
}

// beginning is the first 64 bits of a digest: an archive may have a million.
func beginning(d digest.Digest) uint64 {
	if verify.Digest(d) != nil {
		return 0
	}
	n, _ := strconv.ParseUint(d.Encoded()[:16], 16, 64)
	return n
}

// readAll stores the blobs and keeps the documents.
func (im *importer) readAll(ctx context.Context, t *tarReader) error {
	for {
		hdr, r, err := t.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := im.file(ctx, hdr, r); err != nil {
			return err
		}
	}
}

// file takes one file or link of the archive.
func (im *importer) file(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	if len(hdr.Name)+len(hdr.Linkname) > maxName {
		return bad(content.ErrTooLarge, "a name has more than %d bytes", maxName)
	}
	name := path.Clean(strings.TrimPrefix(hdr.Name, "/"))
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		return im.link(name, path.Join(path.Dir(name), hdr.Linkname))
	case tar.TypeLink:
		return im.link(name, path.Clean(hdr.Linkname))
	case tar.TypeReg, tar.TypeGNUSparse:
	default:
		return nil
	}
	switch {
	case name == ocilayout.LayoutFile || name == ocilayout.IndexFile || name == dockerList:
		return im.document(name, hdr.Size, r)
	case strings.HasPrefix(name, ocilayout.BlobsDir+"/"):
		if d, ok := ocilayout.BlobDigest(name); ok {
			return im.blob(ctx, ocispec.Descriptor{Digest: d, Size: hdr.Size}, r)
		}
		return nil // nothing can name it
	case len(im.others) >= maxOthers:
		return bad(content.ErrTooLarge, "more than %d files that are not blobs", maxOthers)
	}
	if err := im.keepName(name); err != nil {
		return err
	}
	// A part of a long header would keep all of it.
	return im.keepFile(ctx, strings.Clone(name), hdr.Size, r)
}

func (im *importer) link(name, to string) error {
	if len(im.links) >= maxOthers {
		return bad(content.ErrTooLarge, "more than %d links", maxOthers)
	}
	if err := im.keepName(name, to); err != nil {
		return err
	}
	im.links[strings.Clone(name)] = strings.Clone(to)
	return nil
}

// keepName makes room for names that are kept to the end, within the limit of all.
func (im *importer) keepName(names ...string) error {
	for _, name := range names {
		im.names += len(name)
	}
	if im.names > maxNames {
		return bad(content.ErrTooLarge, "the names of its files that are not blobs have more than %d bytes", maxNames)
	}
	return nil
}

// document keeps a file that says what is in the archive.
func (im *importer) document(name string, size int64, r io.Reader) error {
	if name == dockerList && im.docs[ocilayout.IndexFile] != nil {
		return nil // which says the same of the same images
	}
	limit := int64(maxList)
	if name == ocilayout.LayoutFile {
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

// blob stores content that is named by its digest.
func (im *importer) blob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	im.brought[beginning(desc.Digest)] = desc.Size
	in, err := im.store.Ingest(ctx, desc)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	got, n, err := im.write(ctx, desc.Digest, in, r)
	if err != nil {
		return err
	}
	if got != desc.Digest || n != desc.Size {
		in.Discard()
		return bad(content.ErrDigestMismatch, "blob %s has content with digest %s", desc.Digest, got)
	}
	return in.Commit(ctx)
}

// write writes what r has and returns the digest of it, of d's algorithm.
func (im *importer) write(ctx context.Context, d digest.Digest, in content.Ingest, r io.Reader) (digest.Digest, int64, error) {
	return ocilayout.Hash(ctx, d, io.TeeReader(r, io.NewOffsetWriter(in, 0)), im.buf)
}

// A scratchFile is a file of the archive whose digest and use are known only when all of
// the archive was read. The store keeps it as an unfinished ingest under a random digest,
// which is never committed.
type scratchFile struct {
	kept ocispec.Descriptor // what the store keeps it as
	desc ocispec.Descriptor // what it is
}

// keepFile keeps a file as a scratchFile. A later file of the same name takes its place.
func (im *importer) keepFile(ctx context.Context, name string, size int64, r io.Reader) error {
	if old, ok := im.others[name]; ok {
		im.drop(ctx, old)
		delete(im.others, name)
	}
	random := make([]byte, 32)
	rand.Read(random)
	f := scratchFile{kept: ocispec.Descriptor{Digest: digest.Digest("sha256:" + hex.EncodeToString(random)), Size: size}}
	in, err := im.store.Ingest(ctx, f.kept)
	if err != nil {
		return fmt.Errorf("keep %s: %w", quote(name), err)
	}
	f.desc.Digest, f.desc.Size, err = im.write(ctx, f.kept.Digest, in, r)
	if err == nil && f.desc.Size != size {
		err = bad(content.ErrBadIndex, "%s ends early", quote(name))
	}
	if err != nil {
		in.Discard()
		return fmt.Errorf("keep %s: %w", quote(name), err)
	}
	im.others[name] = f
	return in.Close()
}

// adopt stores a scratchFile as a blob. It is read once more: to move it would
// need a second way for a blob to come into being.
func (im *importer) adopt(ctx context.Context, f scratchFile) error {
	in, err := im.store.Ingest(ctx, f.kept)
	if err != nil {
		return err
	}
	defer in.Close()
	whole := f.kept.Size == 0
	for off, n := range in.Have() {
		whole = whole || off == 0 && n == f.kept.Size
	}
	if !whole {
		return removedError(f.desc.Digest)
	}
	return im.blob(ctx, f.desc, io.NewSectionReader(in, 0, f.desc.Size))
}

// clean removes what the store keeps of the archive's other files, also after ctx ended.
func (im *importer) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	for _, f := range im.others {
		im.drop(ctx, f)
	}
}

// cleanTime is how long Import cleans up at most.
const cleanTime = time.Minute

func (im *importer) drop(ctx context.Context, f scratchFile) {
	if in, err := im.store.Ingest(ctx, f.kept); err == nil {
		in.Discard()
	}
}

// ociImages are the entries of the archive's index.json.
func (im *importer) ociImages(ctx context.Context) ([]image, error) {
	if _, err := ocilayout.ParseVersion(im.docs[ocilayout.LayoutFile]); err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w", ocilayout.LayoutFile, err)
	}
	ix, err := ocilayout.ParseIndex(im.docs[ocilayout.IndexFile], maxImages)
	if err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w", ocilayout.IndexFile, err)
	}
	images := make([]image, 0, len(ix.Entries))
	for i, e := range ix.Entries {
		name, ok := ix.ImportName(i)
		if !ok {
			continue
		}
		desc, err := im.resolve(ctx, e)
		if err != nil {
			return nil, err
		}
		ref, err := im.name(name, desc)
		if err != nil {
			return nil, err
		}
		images = append(images, image{ref, desc})
	}
	return images, nil
}

// resolve is what an entry's name resolved to: the index that it says, if that is in the
// archive and lists what the entry shows.
func (im *importer) resolve(ctx context.Context, e ocilayout.Entry) (ocispec.Descriptor, error) {
	shown, resolved, err := e.Decode()
	if err == nil {
		err = ocilayout.CheckDescriptor(shown)
	}
	if err != nil {
		return shown, &content.Error{Kind: content.ErrBadIndex, Err: fmt.Errorf("archive: %w", err)}
	}
	if shown.Digest == resolved.Digest {
		return shown, nil
	}
	if ok, err := ocilayout.Lists(ctx, im.store, resolved, shown); !ok || err != nil {
		return shown, err
	}
	return resolved, nil
}

// name is what an image is called: a whole name as it is, a bare tag or nothing
// under Config.Repository.
func (im *importer) name(name string, desc ocispec.Descriptor) (reference.Reference, error) {
	whole := name
	if !strings.ContainsAny(name, ":/@") {
		if im.cfg.Repository == "" {
			return reference.Reference{}, bad(content.ErrBadReference,
				"image %s is called %s, which is not a whole name: set Config.Repository", desc.Digest, redact.Quote(name, 80))
		}
		if whole = im.cfg.Repository + ":" + name; name == "" {
			whole = im.cfg.Repository + "@" + string(desc.Digest)
		}
	}
	ref, err := reference.Parse(whole)
	if err != nil {
		return reference.Reference{}, bad(content.ErrBadReference, "image %s: %w", desc.Digest, err)
	}
	return ref, nil
}

func unmarshal(name string, data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return bad(content.ErrBadIndex, "%s: %w", quote(name), err)
	}
	return nil
}
