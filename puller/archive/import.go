package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

// Limits of an archive. No known program writes an archive that reaches one of them.
const (
	maxFiles     = 1 << 20
	maxOthers    = 1 << 16  // files that are not blobs, and as many links; their names are kept until the end
	maxName      = 8 << 10  // bytes of a name and its link target together
	maxNames     = 16 << 20 // bytes of all names that are kept
	maxList      = 8 << 20  // bytes of index.json and of manifest.json
	maxImages    = 1 << 16  // images in one list
	maxParts     = 1 << 18  // layers and tags in one manifest.json
	maxHoles     = 1 << 30  // bytes of zeros that sparse files leave out, and of zeros behind the end
	maxLinkSteps = 8        // links that lead from a path to a file
)

// A Config holds the settings of Import. The zero Config is right for archives whose
// images have whole names.
type Config struct {
	// Repository, such as registry.example/team/app, completes the names of images that
	// do not have a repository. Import puts it before a bare tag, and before the digest
	// of an image without a name. If Repository is empty, Import refuses such images with
	// an error.
	Repository string
}

// Import stores the images of the archive r in store, tags them, and returns them in the
// archive's order. The archive is an OCI archive, which is a tar of an OCI image layout,
// or the output of any version of docker save. It is plain or compressed with gzip or
// bzip2.
//
// Import reads r to its end. Zeros may follow the archive, because tar writers pad it
// with them. Other bytes after the archive are an error. An example is a second archive
// that cat appended.
//
// Import hashes all content before it commits the content. With errors.Is the error matches
//
//   - content.ErrDigestMismatch for content that does not have the digest in its name;
//   - content.ErrBadIndex for bytes that are not such an archive, for an archive that is
//     cut off, and for an archive without images: the error names the probable kind of the bytes and says what to do.
//     It does not quote printable bytes, because the caller may have passed a file with a
//     password by mistake;
//   - content.ErrBadReference for a name that is not a valid image name;
//   - content.ErrTooLarge for an archive with longer or more names than any program writes,
//     or with more than 1 GiB of holes in its files and zeros behind its end;
//   - fs.ErrNotExist if another process removed content of the archive from store during
//     the Import. Then import the archive again.
//
// The name of an image is the ref.name annotation of its entry. If ref.name is only the tag
// of the name in the annotation io.containerd.image.name, or if the entry does not have
// ref.name, the name is io.containerd.image.name. A name without a registry is one of
// Docker Hub's, unless it is a bare tag. If several images with different digests have one
// name, one of them gets it. The order of preference is: an image whose ref.name is the
// name as Reference.String writes it; an image whose ref.name is the name with a registry
// in another spelling; an image whose io.containerd.image.name is the name and whose
// ref.name is its tag; any other image. Among equals, the first image gets the name. Import
// names each other image by its repository and digest.
//
// If the archive has both index.json and manifest.json, Import also stores the images and
// tags the names that only manifest.json lists. They follow those of index.json. If both
// lists have a name, the image in index.json gets it. The tag <none>:<none> in
// manifest.json is not a name.
//
// Import tags no image before it has read the whole archive. After an error, store may
// hold blobs of the archive without a name. Import follows links in the archive to files
// in the archive. It writes no file outside store. An older archive of docker save has
// files whose digest is known only at the end; Import keeps such a file in store as an
// unfinished ingest until then, and reads it back. A store whose ingests are
// content.OrderedIngests without ReadAt cannot give it back, so Import of such an archive
// fails there, with the store's error. If the store is a content.Holder, Import holds
// content until the images have their names.
func Import(ctx context.Context, store content.Store, r io.Reader, cfg Config) ([]content.Entry, error) {
	if holder, ok := store.(content.Holder); ok {
		release, err := holder.Hold(ctx)
		if err != nil {
			return nil, fail(ctx, "import", err)
		}
		defer release()
	}
	im := newImporter(store, cfg)
	defer im.clean(ctx)
	entries, err := im.run(ctx, r)
	if err != nil {
		return nil, fail(ctx, "import", err)
	}
	return entries, nil
}

// bad returns an error about the archive with this reason.
func bad(reason content.Reason, format string, args ...any) error {
	return &content.Error{Reason: reason, Err: fmt.Errorf("archive: "+format, args...)}
}

// fail adds the operation to an error that does not have a reason. It returns an error with
// a reason, and the error of a ctx that has ended, unchanged.
func fail(ctx context.Context, what string, err error) error {
	if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) || content.ReasonOf(err) != "" {
		return err
	}
	return fmt.Errorf("archive: %s: %w", what, err)
}

// quote returns a name of the archive for an error text, quoted and cut.
func quote(name string) string { return redact.Quote(name, 200) }

// An importer reads one archive.
type importer struct {
	store     content.Store
	cfg       Config
	buf       []byte
	docs      map[string][]byte      // content of index.json, manifest.json and oci-layout, by name
	others    map[string]scratchFile // files whose use is not known before the end, by path
	links     map[string]string      // path of a link -> path of its target, within the archive
	names     int                    // sum of the lengths of the names in others and links, in bytes
	holes     int64                  // how many bytes of holes the files of the archive may have
	blobSizes map[uint64]int64       // the sizes of the archive's blobs, by digestPrefix
}

func newImporter(store content.Store, cfg Config) *importer {
	return &importer{
		store: store, cfg: cfg, buf: make([]byte, ocilayout.HashBuffer),
		docs: make(map[string][]byte), others: make(map[string]scratchFile), links: make(map[string]string),
		holes: maxHoles, blobSizes: make(map[uint64]int64),
	}
}

func (im *importer) run(ctx context.Context, r io.Reader) ([]content.Entry, error) {
	t, err := openTar(ocilayout.ContextReader{Ctx: ctx, R: r}, im.holes)
	if err != nil {
		return nil, err
	}
	if err := im.readAll(ctx, t); err != nil {
		return nil, err
	}
	images, err := im.images(ctx)
	if err != nil {
		return nil, t.maybeCutOff(err)
	}
	entries, err := im.tag(ctx, images)
	return entries, t.maybeCutOff(err)
}

// An image is a descriptor and the name that the archive gives it.
type image struct {
	ref  reference.Reference
	desc ocispec.Descriptor
}

// images returns the images that the archive's list names. Their content is in the store.
func (im *importer) images(ctx context.Context) ([]image, error) {
	switch {
	case im.docs[ocilayout.IndexFile] != nil:
		return im.ociImages(ctx)
	case im.docs[dockerList] != nil:
		return im.dockerImages(ctx)
	}
	return nil, im.notAnArchive()
}

// tag checks that all images are complete, and then gives them their names.
func (im *importer) tag(ctx context.Context, images []image) ([]content.Entry, error) {
	entries := make([]content.Entry, 0, len(images))
	for _, img := range images {
		ok, err := ocilayout.Complete(ctx, im.store, img.desc)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, im.incompleteError(ctx, img)
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
		entries = append(entries, content.Entry{Ref: img.ref, Name: img.ref.String(), Descriptor: img.desc, Manifest: shown})
	}
	return entries, nil
}

// incompleteError returns the error for an image of which content is missing. Either the
// archive does not have that content, or another process removed it from the store.
func (im *importer) incompleteError(ctx context.Context, img image) error {
	missing, removed := digest.Digest(""), false
	err := ocilayout.Walk(ctx, im.store, img.desc, make(map[digest.Digest]bool), func(desc ocispec.Descriptor, stored bool) {
		if !stored && !removed {
			_, removed = im.blobSizes[digestPrefix(desc.Digest)]
			missing = desc.Digest
		}
	})
	if err != nil {
		return err
	}
	if removed {
		return removedError(missing)
	}
	return bad(content.ErrBadIndex, "image %q (%s) is not complete: the archive does not have blob %s", img.ref, img.desc.Digest, missing)
}

// removedError returns the error for a blob that the archive has and the store does not.
func removedError(d digest.Digest) error {
	return bad(content.ErrNotFound, "another process removed blob %s of the archive from the store during the import: import the archive again", d)
}

// digestPrefix returns the first 64 bits of a digest, or 0 for an invalid digest. An
// importer keeps them instead of the digest, because an archive may have a million blobs.
func digestPrefix(d digest.Digest) uint64 {
	if verify.Digest(d) != nil {
		return 0
	}
	n, _ := strconv.ParseUint(d.Encoded()[:16], 16, 64)
	return n
}

// readAll stores the blobs of the archive and keeps its documents.
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

// file stores or keeps one file of the archive, or keeps one link.
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
		return nil // the path is not that of a blob, and no document names other files there
	case len(im.others) >= maxOthers:
		return bad(content.ErrTooLarge, "more than %d files that are not blobs", maxOthers)
	}
	if err := im.keepName(name); err != nil {
		return err
	}
	// The name is cloned, because it is a part of a long header and would keep the whole
	// header in memory.
	return im.keepFile(ctx, strings.Clone(name), hdr.Size, r)
}

// link keeps a link from name to another path of the archive.
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

// keepName counts names that are kept to the end, and returns an error if they are longer
// than maxNames together.
func (im *importer) keepName(names ...string) error {
	for _, name := range names {
		im.names += len(name)
	}
	if im.names > maxNames {
		return bad(content.ErrTooLarge, "the names of its files that are not blobs have more than %d bytes", maxNames)
	}
	return nil
}

// document keeps the content of index.json, manifest.json or oci-layout.
func (im *importer) document(name string, size int64, r io.Reader) error {
	limit := int64(maxList)
	if name == ocilayout.LayoutFile {
		limit = 64 << 10
	}
	if size > limit {
		return bad(content.ErrTooLarge, "%s has %d bytes, more than the limit of %d", name, size, limit)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	if old, ok := im.docs[name]; ok && !bytes.Equal(old, data) {
		return bad(content.ErrBadIndex, `it has %s twice, with different content, as archives that "tar -A" joined: import each archive by itself, or unpack it and pack it again`, name)
	}
	im.docs[name] = data
	return nil
}

// blob stores a blob. The error has the reason content.ErrDigestMismatch if the content of
// r is not that of desc.
func (im *importer) blob(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	im.blobSizes[digestPrefix(desc.Digest)] = desc.Size
	in, from, err := im.ingestWhole(ctx, desc)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	got, n, err := im.write(ctx, desc.Digest, in, from, r)
	if err != nil {
		return err
	}
	if got != desc.Digest || n != desc.Size {
		in.Discard()
		return bad(content.ErrDigestMismatch, "blob %s has content with digest %s", desc.Digest, got)
	}
	return in.Commit(ctx)
}

// ingestWhole begins an ingest, and returns the offset from which on bytes are written. If the
// ingest takes bytes only in order and has some already, ingestWhole throws these away,
// because the archive has all bytes of the blob anyway. Bytes that are there even then are
// those of a blob that the store has in another place. They need not be written if the store
// verifies them.
func (im *importer) ingestWhole(ctx context.Context, desc ocispec.Descriptor) (in content.Ingest, from int64, err error) {
	for range 2 {
		if in, err = im.store.Ingest(ctx, desc); err != nil {
			return nil, 0, err
		}
		ordered, ok := in.(content.OrderedIngest)
		if !ok || ordered.Offset() == 0 {
			return in, 0, nil
		}
		if from > 0 {
			break
		}
		from = ordered.Offset()
		err := in.Discard()
		in.Close()
		if err != nil {
			return nil, 0, err
		}
	}
	verifying, ok := in.(content.VerifyingIngest)
	from = in.(content.OrderedIngest).Offset()
	if !ok || !verifying.Verifies() || from > desc.Size {
		in.Close()
		return nil, 0, &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("archive: the store still has %d bytes of blob %s after they were discarded", from, desc.Digest)}
	}
	return in, from, nil
}

// write copies r to in, without the bytes before from, which in has. It returns the digest of
// all bytes, with the algorithm of d, and their number.
func (im *importer) write(ctx context.Context, d digest.Digest, in content.Ingest, from int64, r io.Reader) (digest.Digest, int64, error) {
	return ocilayout.Hash(ctx, d, io.TeeReader(r, &offsetWriter{in: in, from: from}), im.buf)
}

// An offsetWriter writes to an ingest in order. It leaves out the bytes before from.
type offsetWriter struct {
	in   content.Ingest
	off  int64
	from int64
}

func (w *offsetWriter) Write(p []byte) (int, error) {
	have := min(int64(len(p)), max(0, w.from-w.off))
	n := int(have)
	if n < len(p) {
		k, err := w.in.WriteAt(p[n:], w.off+have)
		if n += k; err != nil {
			return n, err
		}
	}
	w.off += int64(n)
	return n, nil
}

// A scratchFile is a file of the archive whose digest and use are not known before the
// whole archive was read. The store keeps it as an unfinished ingest under a random
// digest. That ingest is never committed.
type scratchFile struct {
	kept    ocispec.Descriptor // the descriptor of the unfinished ingest
	desc    ocispec.Descriptor // the digest and size of the file
	archive bool               // the file starts like an archive, plain or compressed
}

// keepFile keeps a file as a scratchFile. It replaces an earlier file of the same name.
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
	begin := make([]byte, min(size, tarBlock))
	n, err := io.ReadFull(r, begin)
	if err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		f.archive = isArchive(begin[:n])
		f.desc.Digest, f.desc.Size, err = im.write(ctx, f.kept.Digest, in, 0, io.MultiReader(bytes.NewReader(begin[:n]), r))
	}
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

// adopt stores a scratchFile as a blob. It copies the bytes, because a content.Store
// cannot rename an ingest.
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

// clean removes the scratchFiles from the store, even if ctx has ended.
func (im *importer) clean(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	for _, f := range im.others {
		im.drop(ctx, f)
	}
}

// cleanTime is the longest time for which Import cleans up.
const cleanTime = time.Minute

// drop removes a scratchFile from the store.
func (im *importer) drop(ctx context.Context, f scratchFile) {
	if in, err := im.store.Ingest(ctx, f.kept); err == nil {
		in.Discard()
	}
}

// ociImages returns the images in the archive's index.json.
func (im *importer) ociImages(ctx context.Context) ([]image, error) {
	version := im.docs[ocilayout.LayoutFile]
	if err := im.linked(ocilayout.LayoutFile); version == nil && err != nil {
		return nil, err
	}
	if version == nil {
		return nil, bad(content.ErrBadIndex, "it has %s but not %s: %s", ocilayout.IndexFile, ocilayout.LayoutFile, packWhole)
	}
	if _, err := ocilayout.ParseVersion(version); err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w: it must be %s", ocilayout.LayoutFile, err, ocilayout.Layout)
	}
	ix, err := ocilayout.ParseIndex(im.docs[ocilayout.IndexFile], maxImages)
	if err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w: make the archive again", ocilayout.IndexFile, err)
	}
	list, err := im.dockerListBesideIndex()
	if err != nil {
		return nil, err
	}
	if len(ix.Entries) == 0 && len(list) == 0 {
		return nil, noImages(ix)
	}
	images := make([]image, 0, len(ix.Entries))
	owners := make(map[string]int) // by name, the position in images of the image that has the name
	for i, e := range ix.Entries {
		desc, err := im.resolve(ctx, e)
		if err != nil {
			return nil, err
		}
		ref, err := im.name(e.ImportName(), desc)
		if err != nil {
			return nil, err
		}
		if _, taken := owners[ref.String()]; !taken || ix.Answers(i) {
			owners[ref.String()] = i
		}
		images = append(images, image{ref, desc})
	}
	return im.addDockerImages(ctx, list, images, owners)
}

// noImages returns the error for an index.json without entries.
func noImages(ix *ocilayout.Index) error {
	switch {
	case ix.Has("config") || ix.Has("layers") || ix.Has("fsLayers"):
		return bad(content.ErrBadIndex, `%s is an image manifest, not a list of images: %s`, ocilayout.IndexFile, makeArchive)
	case !ix.Listed:
		return bad(content.ErrBadIndex, "%s does not have a list of images, which is called manifests: %s", ocilayout.IndexFile, makeArchive)
	}
	return bad(content.ErrBadIndex, "%s lists no images: save the archive again, with the images' names", ocilayout.IndexFile)
}

// uniqueNames makes names unique. It leaves out repetitions of an image. If another image
// keeps the name, the image gets a name with its digest. owners gives, by name, the
// position of the image that keeps the name.
func uniqueNames(images []image, owners map[string]int) ([]image, error) {
	used := make(map[reference.Reference]bool, len(images))
	kept := images[:0:0]
	for i, img := range images {
		if owner, ok := owners[img.ref.String()]; ok && owner != i {
			if images[owner].desc.Digest == img.desc.Digest {
				continue
			}
			pinned, err := img.ref.WithDigest(img.desc.Digest)
			if err != nil {
				return nil, err
			}
			img.ref = pinned.WithoutTag()
		}
		if !used[img.ref] {
			used[img.ref] = true
			kept = append(kept, img)
		}
	}
	return kept, nil
}

// resolve returns the descriptor to which an entry's name resolved. This is the index in
// the entry's annotation, if the index is stored and lists the manifest that the entry
// shows. Otherwise it is that manifest.
func (im *importer) resolve(ctx context.Context, e ocilayout.Entry) (ocispec.Descriptor, error) {
	shown, resolved, err := e.Decode()
	if err == nil {
		err = ocilayout.CheckDescriptor(shown)
	}
	if err != nil {
		return shown, &content.Error{Reason: content.ErrBadIndex, Err: fmt.Errorf("archive: %w", err)}
	}
	if shown.Digest == resolved.Digest {
		return shown, nil
	}
	if ok, err := ocilayout.Lists(ctx, im.store, resolved, shown); !ok || err != nil {
		return shown, err
	}
	return resolved, nil
}

// name returns the Reference of an image. A whole name does not change. Config.Repository
// completes a bare tag and a missing name.
func (im *importer) name(name string, desc ocispec.Descriptor) (reference.Reference, error) {
	whole := name
	if !strings.ContainsAny(name, ":/@") {
		if im.cfg.Repository == "" && name == "" {
			return reference.Reference{}, bad(content.ErrBadReference, "image %s does not have a name: set Config.Repository", desc.Digest)
		}
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

// unmarshal parses a document of the archive. Its error does not quote the document.
func unmarshal(name string, data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) {
		return bad(content.ErrBadIndex, "%s: %s has the wrong type", quote(name), memberOf(e.Field))
	}
	if err != nil {
		what, _ := describe(data[:min(len(data), tarBlock)])
		return bad(content.ErrBadIndex, "%s is not JSON but %s", quote(name), what)
	}
	return nil
}

// memberOf returns words for the last member in a path of encoding/json. It leaves out
// positions in lists, because the path has them only with GOEXPERIMENT=jsonv2.
func memberOf(path string) string {
	for _, name := range slices.Backward(strings.Split(path, ".")) {
		if _, err := strconv.Atoi(name); err != nil && name != "" {
			return "the member " + name
		}
	}
	return "a member"
}
