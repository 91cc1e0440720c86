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

// maxIndexSize limits index.json, both when it is read and when it is written: some
// 200,000 images.
const maxIndexSize = 128 << 20

// maxIndexEntries limits the entries of an index.json of that size: a descriptor with a
// digest has more than 90 bytes.
const maxIndexEntries = maxIndexSize / 90

// An indexFile is index.json as it was read or written. Only a copy that no other
// goroutine has changes; see clone.
type indexFile struct {
	*ocilayout.Index

	listed sync.Map // listing -> struct{}: see names.lists

	changed bool // differs from what it was cloned from
	durable bool // was synced, with its name; guarded by indexLock

	// f is the file it was read from, kept open so that no other file can have its
	// identity, and info what was known of it then. Both are nil for an index that was
	// never written.
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

// clone returns a copy to change.
func (ix *indexFile) clone() *indexFile { return &indexFile{Index: ix.Clone()} }

// find returns the entry that ref names.
func (ix *indexFile) find(ref reference.Reference) (ocilayout.Entry, bool) {
	i, ok := ix.Find(ref)
	if !ok {
		return ocilayout.Entry{}, false
	}
	return ix.Entries[i], true
}

// set names an image; see ocilayout.Index.Set.
func (ix *indexFile) set(e ocilayout.Entry) {
	if ix.Set(e) {
		ix.changed = true
	}
}

// remove drops the entry of a Reference; see ocilayout.Index.Remove.
func (ix *indexFile) remove(ref string) {
	ix.Remove(ref)
	ix.changed = true
}

// names are the images of a layout, which index.json has.
type names struct {
	*blobs
	index   atomic.Pointer[indexFile] // as last read or written
	reading sync.Mutex                // held by the goroutine that parses index.json; the others wait for it
	edits   *batch[edit]
	epoch   fs.FileInfo    // of epochName when the layout was opened; nil if it was missing
	closing sync.WaitGroup // indexes that are being closed
}

// An edit changes index.json. It is called with a copy that is its own.
type edit func(ctx context.Context, ix *indexFile) error

func newNames(b *blobs) *names { return &names{blobs: b, edits: newBatch[edit](b.moreArrive)} }

// close closes index.json.
func (n *names) close() {
	if ix := n.index.Swap(nil); ix != nil {
		ix.close()
	}
	n.closing.Wait()
}

// readIndex returns index.json as it is now: what was read before, if the file is still
// the same.
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

// currentIndex returns what was read before if the file still holds that, and otherwise
// nil.
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

// edit changes index.json under the lock, together with all other edits that wait.
func (n *names) edit(ctx context.Context, change edit) error {
	return n.edits.do(ctx, change, n.editAll)
}

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
	all := context.WithoutCancel(ctx) // the edits of other callers are not this caller's to cancel
	jobs := take()
	for _, j := range jobs {
		j.err = j.item(all, next)
	}
	err = n.settleNames()
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

// settleIndex makes index.json durable as it is, if this process did not write it.
func (n *names) settleIndex(ix *indexFile) error {
	if ix.durable || ix.info == nil {
		return nil
	}
	if ix.f != nil {
		if err := ix.f.Sync(); err != nil {
			return err
		}
	}
	if err := n.fs.SyncDir("."); err != nil {
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
	f, info, err := n.writeFile(temp, data)
	if err != nil {
		return err
	}
	if err := n.nameIndex(ix, temp, f, info); err != nil {
		f.Close()
		n.fs.Remove(temp)
		return err
	}
	if err := n.fs.SyncDir("."); err != nil {
		return err
	}
	ix.durable = true
	return nil
}

func (n *names) tooLarge(size int) error {
	return &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("layout %q: %w: %s would have %d bytes, and at most %d are read: remove images, or use another layout",
		n.dir, content.ErrTooLarge, indexName, size, n.tune.indexSize)}
}

// nameIndex makes temp, which f has open, index.json, and ix what was read last. To
// goroutines that read it is one step, so that they do not parse what is known here.
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

// closeBeforeRename says that an open file cannot be renamed or replaced.
const closeBeforeRename = runtime.GOOS == "windows"

func (n *names) swapIndex(ix *indexFile, f disk.File, info fs.FileInfo) {
	ix.f, ix.info = f, info
	if closeBeforeRename {
		f.Close()
		ix.f = nil
	}
	if old := n.index.Swap(ix); old != nil {
		// Closing the last handle frees the old file, which is slow for one of
		// megabytes.
		n.closing.Go(old.close)
	}
}

// lookup returns what ref names; see Layout.Lookup.
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
	// digest then names what it always named.
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
			continue // an entry that cannot be read is not an image, and hides no other
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

// Limits of the search for a digest in an image: as many levels of indexes as a pull
// follows, and how many indexes are looked at.
const (
	maxIndexLevels = 5
	maxIndexesRead = 64
)

// listed returns the entry with that digest of an index, or of an index within it, if
// the entry's content is stored. It reads level by level, each index once.
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
					if ok, err := n.find(ctx, child); ok || err != nil {
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

// target is what an entry's name resolved to.
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

// resolve returns the descriptor that an entry shows and the one that its name resolved
// to. The second is an index only while that is stored and lists the first: other tools,
// which see no use for the index, may have removed it, and umoci copies the annotation to
// an image that it makes of one of this package.
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

// A listing is an index and one entry of it.
type listing struct{ index, manifest digest.Digest }

// lists reports whether a stored index has an entry with manifest's digest. A positive
// answer is remembered for as long as index.json does not change.
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
		return &content.Error{Reason: content.ErrBadReference, Err: fmt.Errorf("layout %q: tag: no name", n.dir)}
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

// entryFor makes the entry that names desc.
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

// recheck is called with indexLock held, which Remove and Prune hold too. What a pull
// found may have been removed before the pull came to tag it. If no removal began since
// the layout was opened, there is nothing to check; see beginRemoval.
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
		err = n.notFound("something that %s needs was removed meanwhile; pull it again", desc.Digest)
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
