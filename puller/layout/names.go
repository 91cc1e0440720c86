package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// maxIndexSize is the largest size of index.json, both when it is read and when it is
// written. This is about 200,000 images.
const maxIndexSize = 128 << 20

// maxIndexEntries is the most entries in an index.json of that size. A descriptor with a
// digest has more than 90 bytes.
const maxIndexEntries = maxIndexSize / 90

// An indexFile is the content of index.json as it was read or written. Goroutines share
// it, so it does not change; see clone for a copy that may change.
type indexFile struct {
	*ocilayout.Index

	listed sync.Map // listing -> struct{}: see names.lists

	changed bool // differs from the indexFile that it is a clone of
	durable bool // the file and its name were synced; guarded by indexLock

	// f is the file that was read or written, and info describes it at that time. f stays
	// open, so that no other file can get its identity (inode number). Both are nil for
	// an index that was never written.
	f    disk.File
	info fs.FileInfo
}

func emptyIndex() *indexFile { return &indexFile{Index: ocilayout.NewIndex()} }

func parseIndex(data []byte) (*indexFile, error) {
	ix, err := ocilayout.ParseIndex(data, maxIndexEntries)
	return &indexFile{Index: ix}, err
}

func (ix *indexFile) close() {
	if ix.f != nil {
		ix.f.Close()
	}
}

// clone returns a copy that the caller may change.
func (ix *indexFile) clone() *indexFile { return &indexFile{Index: ix.Clone()} }

// find returns the entry that Lookup answers with for ref.
func (ix *indexFile) find(ref reference.Reference) (ocilayout.Entry, bool) {
	i, ok := ix.Find(ref)
	if !ok {
		return ocilayout.Entry{}, false
	}
	return ix.Entries[i], true
}

// set adds an entry, or puts it in place of another; see ocilayout.Index.Set.
func (ix *indexFile) set(e ocilayout.Entry) {
	if ix.Set(e) {
		ix.changed = true
	}
}

// remove removes the entry of a whole name; see ocilayout.Index.Remove.
func (ix *indexFile) remove(ref string) {
	ix.Remove(ref)
	ix.changed = true
}

// removeAt removes the entries at these positions; see ocilayout.Index.RemoveAt.
func (ix *indexFile) removeAt(at []int) {
	ix.RemoveAt(at)
	ix.changed = true
}

// A names value is the entries of index.json in a layout.
type names struct {
	*blobs
	index   atomic.Pointer[indexFile] // as last read or written
	reading sync.Mutex                // held by the goroutine that parses index.json; other goroutines wait for it
	edits   *batch[edit]
	epoch   fs.FileInfo    // describes the file epochName at the time of Open; nil if it was missing
	closing sync.WaitGroup // indexes that are being closed
}

// An edit changes an index. Its argument is a copy that only this edit and the other
// edits of the same batch change.
type edit func(ctx context.Context, ix *indexFile) error

func newNames(b *blobs) *names { return &names{blobs: b, edits: newBatch[edit](b.arriving.over)} }

// close closes index.json.
func (n *names) close() {
	if ix := n.index.Swap(nil); ix != nil {
		ix.close()
	}
	n.closing.Wait()
}

// readIndex returns the present content of index.json. If the file is still the one that
// was read or written last, readIndex does not read it again. Without the file, the index
// is empty.
func (n *names) readIndex() (*indexFile, error) {
	if ix, err := n.currentIndex(); ix != nil || err != nil {
		return ix, err
	}
	n.reading.Lock()
	defer n.reading.Unlock()
	if ix, err := n.currentIndex(); ix != nil || err != nil {
		return ix, err
	}
	f, err := n.fs.OpenFile(indexName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return emptyIndex(), nil
	}
	if err != nil {
		return nil, n.fail(err, "read %s", indexName)
	}
	info, err := f.Stat()
	var data []byte
	if err == nil {
		data, err = readAll(f, indexName, int64(n.tune.indexSize))
	}
	var ix *indexFile
	if err == nil {
		ix, err = parseIndex(data)
	}
	if err != nil {
		f.Close()
		return nil, n.fail(err, "read %s", indexName)
	}
	n.swapIndex(ix, f, info)
	return ix, nil
}

// currentIndex returns the index that was read or written last if the file is still the
// same, and otherwise nil.
func (n *names) currentIndex() (*indexFile, error) {
	ix := n.index.Load()
	if ix == nil {
		return nil, nil
	}
	now, err := n.fs.Lstat(indexName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, n.fail(err, "read %s", indexName)
	}
	if now.Size() == ix.info.Size() && now.ModTime().Equal(ix.info.ModTime()) && n.fs.SameFile(now, ix.info) {
		return ix, nil
	}
	return nil, nil
}

// edit performs change on index.json under the lock, together with all other edits that
// wait.
func (n *names) edit(ctx context.Context, change edit) error {
	return n.edits.do(ctx, n.edits.add(change), n.editAll)
}

// editAll performs all edits that wait, as one turn of a batch.
func (n *names) editAll(ctx context.Context, take func() []*job[edit]) error {
	if err := n.mkdirs(stateDir, ingestDir); err != nil {
		return err
	}
	unlock, err := n.lock(ctx, indexLock)
	if err != nil {
		return err
	}
	defer unlock()
	ix, err := n.readIndex()
	if err != nil {
		return err
	}
	next := ix.clone()
	all := context.WithoutCancel(ctx) // this caller's ctx must not cancel the edits of other callers
	jobs := take()
	for _, j := range jobs {
		j.err = j.item(all, next)
	}
	err = n.syncNoted()
	switch {
	case err != nil:
	case next.changed:
		err = n.replaceIndex(next)
	default:
		err = n.settleIndex(ix)
	}
	if err != nil {
		for _, j := range jobs {
			if j.err == nil {
				j.err = err
			}
		}
	}
	return nil
}

// settleIndex makes index.json durable as it is, if another process wrote it.
func (n *names) settleIndex(ix *indexFile) error {
	if ix.durable || ix.info == nil {
		return nil
	}
	if ix.f != nil {
		if err := ix.f.Sync(); err != nil {
			return err
		}
	}
	n.note(".")
	if err := n.syncNoted(); err != nil {
		return err
	}
	ix.durable = true
	return nil
}

// replaceIndex writes ix as index.json, durably. The caller holds indexLock.
func (n *names) replaceIndex(ix *indexFile) error {
	data := ix.Encode()
	if len(data) > n.tune.indexSize {
		return n.tooLarge(len(data))
	}
	temp := tempName(indexName)
	f, info, err := n.writeFile(temp, data, true)
	if err != nil {
		return err
	}
	if err := n.nameIndex(ix, temp, f, info); err != nil {
		f.Close()
		n.fs.Remove(temp)
		return err
	}
	n.note(".")
	if err := n.syncNoted(); err != nil {
		return err
	}
	ix.durable = true
	return nil
}

// tooLarge returns the error for an index.json that would have size bytes.
func (n *names) tooLarge(size int) error {
	return &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("layout %q: %w: %s would have %d bytes, and at most %d are read: remove images, or use another layout",
		n.dir, content.ErrTooLarge, indexName, size, n.tune.indexSize)}
}

// nameIndex renames temp, which f has open, to index.json, and makes ix the index that
// was read or written last. Goroutines that read the index see both as one step. So no
// goroutine parses a file whose content is known.
func (n *names) nameIndex(ix *indexFile, temp string, f disk.File, info fs.FileInfo) error {
	n.reading.Lock()
	defer n.reading.Unlock()
	if closeBeforeRename {
		f.Close()
	}
	if err := n.rename(temp, indexName); err != nil {
		return err
	}
	n.swapIndex(ix, f, info)
	return nil
}

// closeBeforeRename is true on systems where an open file cannot be renamed or replaced.
const closeBeforeRename = runtime.GOOS == "windows"

// swapIndex makes ix, which f has open, the index that was read or written last.
func (n *names) swapIndex(ix *indexFile, f disk.File, info fs.FileInfo) {
	ix.f, ix.info = f, info
	if closeBeforeRename {
		f.Close()
		ix.f = nil
	}
	if old := n.index.Swap(ix); old != nil {
		// Closing the last handle frees the former file, which is slow for a file of
		// megabytes.
		n.closing.Go(old.close)
	}
}

// lookup returns the descriptor that ref names; see Layout.Lookup.
func (n *names) lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	ix, err := n.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var desc ocispec.Descriptor
	e, ok := ix.find(ref)
	if ok {
		desc, err = n.target(ctx, ix, e)
	}
	// Another tool may have changed an image in place under a name with a digest. The
	// digest still means the former image.
	if d := ref.Digest(); d != "" && err == nil && desc.Digest != d {
		desc, ok, err = n.byDigest(ctx, ix, ref)
	}
	if err != nil {
		return ocispec.Descriptor{}, n.failOrCtx(ctx, err, "look up %q", ref)
	}
	if !ok {
		return ocispec.Descriptor{}, n.notFound("no image %q", ref)
	}
	return desc, nil
}

// byDigest looks for ref's digest in the images of ref's repository.
func (n *names) byDigest(ctx context.Context, ix *indexFile, ref reference.Reference) (ocispec.Descriptor, bool, error) {
	none := ocispec.Descriptor{}
	for i, e := range ix.Entries {
		rest, ok := strings.CutPrefix(e.Ref, ref.Name())
		if !ok || rest == "" || rest[0] != ':' && rest[0] != '@' || !ix.Answers(i) {
			continue
		}
		shown, resolved, err := n.resolve(ctx, ix, e)
		if err != nil || ocilayout.CheckDescriptor(shown) != nil {
			continue // an entry that cannot be read must not hide other entries
		}
		for _, desc := range []ocispec.Descriptor{resolved, shown} {
			if desc.Digest == ref.Digest() {
				return desc, true, nil
			}
		}
		if shown.Digest != resolved.Digest {
			continue // shown is the only image of the index that is stored
		}
		child, ok, err := n.listed(ctx, resolved, ref.Digest())
		if ok || err != nil {
			return child, ok, err
		}
	}
	return none, false, ctx.Err()
}

// Limits of the search for a digest in an image. maxIndexLevels is how many levels of
// indexes the search reads, as many as a pull follows. maxIndexesRead is how many indexes
// it reads.
const (
	maxIndexLevels = 5
	maxIndexesRead = 64
)

// listed returns the descriptor with digest d that an index lists, directly or through
// indexes within it, if the content is stored. It reads the indexes level by level, and
// each index once.
func (n *names) listed(ctx context.Context, desc ocispec.Descriptor, d digest.Digest) (ocispec.Descriptor, bool, error) {
	none := ocispec.Descriptor{}
	if !mediatype.IsIndex(desc.MediaType) {
		return none, false, nil
	}
	level := []ocispec.Descriptor{desc}
	seen := map[digest.Digest]bool{desc.Digest: true}
	for range maxIndexLevels {
		var below []ocispec.Descriptor
		for _, index := range level {
			doc, err := n.document(ctx, index)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ocilayout.ErrNoDocument) {
				continue
			}
			if err != nil {
				return none, false, err
			}
			for _, child := range doc.Manifests {
				if child.Digest == d && ocilayout.CheckDescriptor(child) == nil {
					if ok, err := n.hasToTag(ctx, child); ok || err != nil {
						return child, ok, err
					}
				}
				if mediatype.IsIndex(child.MediaType) && !seen[child.Digest] && len(seen) < maxIndexesRead {
					seen[child.Digest] = true
					below = append(below, child)
				}
			}
		}
		level = below
	}
	return none, false, nil
}

// target returns the descriptor to which an entry's name resolved.
func (n *names) target(ctx context.Context, ix *indexFile, e ocilayout.Entry) (ocispec.Descriptor, error) {
	shown, resolved, err := n.resolve(ctx, ix, e)
	if err == nil {
		err = ocilayout.CheckDescriptor(shown)
	}
	if err != nil {
		return shown, err
	}
	return resolved, nil
}

// resolve returns the descriptor that an entry shows and the descriptor to which its name
// resolved. The second is an index only if the index is stored and lists the first.
// Otherwise both are equal. There are two reasons for this: other tools remove an index
// that they do not use, and umoci copies AnnotationResolved to an image that it derives.
func (n *names) resolve(ctx context.Context, ix *indexFile, e ocilayout.Entry) (shown, resolved ocispec.Descriptor, err error) {
	shown, resolved, err = e.Decode()
	if err != nil || shown.Digest == resolved.Digest {
		return shown, shown, err
	}
	ok, err := n.lists(ctx, ix, resolved, shown)
	if !ok {
		return shown, shown, err
	}
	return shown, resolved, nil
}

// A listing is the digests of an index and of a manifest that it lists.
type listing struct{ index, manifest digest.Digest }

// lists reports whether a stored index has an entry with manifest's digest. It remembers
// a positive answer until index.json changes.
func (n *names) lists(ctx context.Context, ix *indexFile, index, manifest ocispec.Descriptor) (bool, error) {
	if !mediatype.IsIndex(index.MediaType) || ocilayout.CheckDescriptor(index) != nil {
		return false, nil
	}
	key := listing{index.Digest, manifest.Digest}
	if _, ok := ix.listed.Load(key); ok {
		return n.has(ctx, index)
	}
	ok, err := ocilayout.Lists(ctx, documents{n.blobs}, index, manifest)
	if err != nil {
		return false, err
	}
	if ok {
		ix.listed.Store(key, struct{}{})
	}
	return ok, nil
}

// tag makes ref name desc; see Layout.Tag.
func (n *names) tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	if ref.IsZero() {
		return &content.Error{Reason: content.ErrBadReference, Err: fmt.Errorf("layout %q: tag: the name is empty", n.dir)}
	}
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return err
	}
	e, err := n.entryFor(ctx, ref, desc)
	if err != nil {
		return n.fail(err, "tag %q", ref)
	}
	err = n.edit(ctx, func(ctx context.Context, ix *indexFile) error {
		if err := n.recheck(ctx, desc); err != nil {
			return err
		}
		if size, limit := ix.Grown(e), n.tune.indexSize; size > limit && size > ix.Size() {
			return n.tooLarge(size)
		}
		ix.set(e)
		return nil
	})
	return n.failOrCtx(ctx, err, "tag %q", ref)
}

// entryFor returns the entry that makes ref the name of desc.
func (n *names) entryFor(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) (ocilayout.Entry, error) {
	ok, err := n.has(ctx, desc)
	if err != nil {
		return ocilayout.Entry{}, err
	}
	if !ok {
		return ocilayout.Entry{}, n.notFound("tag %q: blob %s is not stored", ref, desc.Digest)
	}
	shown, err := ocilayout.OnlyImage(ctx, documents{n.blobs}, desc)
	if err != nil {
		return ocilayout.Entry{}, err
	}
	return ocilayout.NamedEntry(ref.String(), ref, shown, desc)
}

// recheck checks that no content of an image was removed between its pull and its Tag.
// The caller holds indexLock, which Remove, Prune and Repair also hold. If no removal was
// started after the layout was opened, recheck checks nothing; see beginRemoval.
func (n *names) recheck(ctx context.Context, desc ocispec.Descriptor) error {
	now, err := n.fs.Lstat(epochName)
	if errors.Is(err, fs.ErrNotExist) && n.epoch == nil {
		return nil
	}
	if err == nil && n.epoch != nil && n.fs.SameFile(now, n.epoch) && now.ModTime().Equal(n.epoch.ModTime()) {
		return nil
	}
	ok, err := n.complete(ctx, desc)
	if err == nil && !ok {
		err = n.notFound("content that image %s needs was removed after the pull found it: pull the image again", desc.Digest)
	}
	return err
}

// list returns the entries of index.json; see Layout.List.
func (n *names) list(ctx context.Context) ([]content.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ix, err := n.readIndex()
	if err != nil {
		return nil, err
	}
	images := make([]content.Entry, 0, len(ix.Entries))
	for i, e := range ix.Entries {
		img := content.Entry{Name: e.Name}
		if img.Manifest, img.Descriptor, err = n.resolve(ctx, ix, e); err == nil && ix.Answers(i) {
			img.Ref, err = reference.Parse(e.Ref)
		}
		if err != nil {
			return nil, n.failOrCtx(ctx, err, "list")
		}
		images = append(images, img)
	}
	return images, nil
}
