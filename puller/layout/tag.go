package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// An edit changes index.json; it is called with a copy that is its own.
type edit func(ctx context.Context, ix *indexFile) error

// Lookup returns what ref was tagged with: an index, where that is what the
// name points to, though only one of its manifests may be stored. An entry that
// another tool wrote counts if its ref.name annotation has a registry and means
// ref, or is ref's tag beside an io.containerd.image.name that means ref.
//
// A ref with a digest is also found if another name of the same repository was
// tagged with that digest, or with an index that lists it, itself or through indexes
// within it, and it is stored: one digest in one repository is one image, whatever
// its tag. At most five levels and 64 indexes of an image are looked through.
//
// The error wraps fs.ErrNotExist if there is no such image.
func (l *Layout) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	ix, err := l.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var desc ocispec.Descriptor
	e, ok := ix.find(ref)
	if ok {
		desc, err = l.target(ctx, ix, e)
	}
	// Another tool may have changed an image in place under a name with a digest.
	// The digest then names what it always named.
	if d := ref.Digest(); d != "" && err == nil && desc.Digest != d {
		desc, ok, err = l.byDigest(ctx, ix, ref)
	}
	if err != nil {
		return ocispec.Descriptor{}, l.failOrCtx(ctx, err, "look up %q", ref)
	}
	if !ok {
		return ocispec.Descriptor{}, l.notFound("no image %q", ref)
	}
	return desc, nil
}

// byDigest looks for ref's digest in the images of ref's repository.
func (l *Layout) byDigest(ctx context.Context, ix *indexFile, ref reference.Reference) (ocispec.Descriptor, bool, error) {
	none := ocispec.Descriptor{}
	for i, e := range ix.Entries {
		rest, ok := strings.CutPrefix(e.Ref, ref.Name())
		if !ok || rest == "" || rest[0] != ':' && rest[0] != '@' || !ix.Answers(i) {
			continue
		}
		shown, resolved, err := l.resolve(ctx, ix, e)
		if err != nil || ocilayout.CheckDescriptor(shown) != nil {
			continue // an entry that cannot be read is no image, and hides no other
		}
		for _, desc := range []ocispec.Descriptor{resolved, shown} {
			if desc.Digest == ref.Digest() {
				return desc, true, nil
			}
		}
		if shown.Digest != resolved.Digest {
			continue // the one image of the index that is stored
		}
		child, ok, err := l.listed(ctx, resolved, ref.Digest())
		if ok || err != nil {
			return child, ok, err
		}
	}
	return none, false, ctx.Err()
}

// Limits of the search for a digest in an image: as many levels of indexes as a pull
// follows, and so many indexes that are read or asked for.
const (
	maxIndexLevels = 5
	maxIndexesRead = 64
)

// listed returns the entry with that digest of an index, or of an index within it, if
// the entry's content is stored. It reads level by level, each index once.
func (l *Layout) listed(ctx context.Context, desc ocispec.Descriptor, d digest.Digest) (ocispec.Descriptor, bool, error) {
	none := ocispec.Descriptor{}
	if !mediatype.IsIndex(desc.MediaType) {
		return none, false, nil
	}
	level := []ocispec.Descriptor{desc}
	seen := map[digest.Digest]bool{desc.Digest: true}
	for range maxIndexLevels {
		var below []ocispec.Descriptor
		for _, index := range level {
			doc, err := l.document(ctx, index)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ocilayout.ErrNoDocument) {
				continue
			}
			if err != nil {
				return none, false, err
			}
			for _, child := range doc.Manifests {
				if child.Digest == d && ocilayout.CheckDescriptor(child) == nil {
					if ok, err := l.find(ctx, child); ok || err != nil {
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
func (l *Layout) target(ctx context.Context, ix *indexFile, e ocilayout.Entry) (ocispec.Descriptor, error) {
	shown, resolved, err := l.resolve(ctx, ix, e)
	if err == nil {
		err = ocilayout.CheckDescriptor(shown)
	}
	if err != nil {
		return shown, err
	}
	return resolved, nil
}

// resolve gives the descriptor that an entry shows and the one that its name
// resolved to. The second is an index only while that is stored and lists the
// first. Other tools, which see no use for the index, may have removed it, and
// umoci copies the annotation to the image that it makes of ours.
func (l *Layout) resolve(ctx context.Context, ix *indexFile, e ocilayout.Entry) (shown, resolved ocispec.Descriptor, err error) {
	shown, resolved, err = e.Decode()
	if err != nil || shown.Digest == resolved.Digest {
		return shown, shown, err
	}
	ok, err := l.lists(ctx, ix, resolved, shown)
	if !ok {
		return shown, shown, err
	}
	return shown, resolved, nil
}

// A listing is an index and what may be an entry of it.
type listing struct{ index, manifest digest.Digest }

// lists reports whether a stored index has an entry with manifest's digest. What
// was read of an index that is stored is remembered for as long as index.json
// does not change.
func (l *Layout) lists(ctx context.Context, ix *indexFile, index, manifest ocispec.Descriptor) (bool, error) {
	if !mediatype.IsIndex(index.MediaType) || ocilayout.CheckDescriptor(index) != nil {
		return false, nil
	}
	key := listing{index.Digest, manifest.Digest}
	if _, ok := ix.listed.Load(key); ok {
		return l.has(ctx, index)
	}
	ok, err := ocilayout.Lists(ctx, storedBlobs{l}, index, manifest)
	if err != nil {
		return false, err
	}
	if ok {
		ix.listed.Store(key, true)
	}
	return ok, nil
}

// Tag makes ref name desc in index.json and returns when that is durable. Tags
// that wait for the same lock are written together.
//
// The entry's annotations org.opencontainers.image.ref.name and
// io.containerd.image.name both hold the whole canonical name. If desc is an
// index of which one image alone is stored, the entry is that image's manifest,
// since tools such as umoci read no index, and skopeo no index that has absent
// parts when it is to copy all of it; a third annotation keeps desc for Lookup.
//
// The error wraps fs.ErrNotExist if desc, or after a Remove or Prune anything
// that desc needs, is not stored. It is of kind content.ErrStore and wraps
// content.ErrTooLarge if index.json would become larger than 128 MiB, the most
// that is read; the file stays as it was.
func (l *Layout) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	if ref.IsZero() {
		return &content.Error{Kind: content.ErrBadReference, Err: fmt.Errorf("layout %q: tag: no name", l.dir)}
	}
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return err
	}
	e, err := l.entryFor(ctx, ref, desc)
	if err != nil {
		return l.fail(err, "tag %q", ref)
	}
	err = l.edit(ctx, func(ctx context.Context, ix *indexFile) error {
		if err := l.recheck(ctx, desc); err != nil {
			return err
		}
		if n, limit := ix.Grown(e), l.tune.indexSize; n > limit && n > ix.Size() {
			return l.tooLarge(n)
		}
		ix.set(e)
		return nil
	})
	if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
		return err
	}
	return l.fail(err, "tag %q", ref)
}

// entryFor makes the entry that names desc.
func (l *Layout) entryFor(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) (ocilayout.Entry, error) {
	ok, err := l.has(ctx, desc)
	if err != nil {
		return ocilayout.Entry{}, err
	}
	if !ok {
		return ocilayout.Entry{}, l.notFound("tag %q: blob %s is not stored", ref, desc.Digest)
	}
	shown, err := ocilayout.OnlyImage(ctx, storedBlobs{l}, desc)
	if err != nil {
		return ocilayout.Entry{}, err
	}
	return ocilayout.NamedEntry(ref.String(), ref, shown, desc)
}

func (l *Layout) tooLarge(size int) error {
	return &content.Error{Kind: content.ErrStore, Err: fmt.Errorf("layout %q: %w: %s would have %d bytes, and at most %d are read: remove images, or use another layout",
		l.dir, content.ErrTooLarge, indexName, size, l.tune.indexSize)}
}

// edit changes index.json under the lock, together with all others that wait to.
func (l *Layout) edit(ctx context.Context, change edit) error {
	return l.tags.do(ctx, change, l.editAll)
}

func (l *Layout) editAll(ctx context.Context, take func() []*job[edit]) error {
	if err := l.mkdirs(stateDir, ingestDir); err != nil {
		return err
	}
	unlock, err := l.lock(ctx, indexLock)
	if err != nil {
		return err
	}
	defer unlock()
	ix, err := l.readIndex()
	if err != nil {
		return err
	}
	next := ix.clone()
	whole := context.WithoutCancel(ctx) // the others' edits are not this caller's to cancel
	jobs := take()
	for _, j := range jobs {
		j.err = j.item(whole, next)
	}
	err = l.settleNames()
	switch {
	case err != nil:
	case next.changed:
		err = l.replaceIndex(next)
	default:
		err = l.settleIndex(ix)
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

// readIndex returns index.json as it is now: what was read before, if the file
// is still the same.
func (l *Layout) readIndex() (*indexFile, error) {
	if ix, err := l.currentIndex(); ix != nil || err != nil {
		return ix, err
	}
	l.reading.Lock()
	defer l.reading.Unlock()
	if ix, err := l.currentIndex(); ix != nil || err != nil {
		return ix, err
	}
	f, err := l.fs.OpenFile(indexName, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return emptyIndex(), nil
	}
	if err != nil {
		return nil, l.fail(err, "read %s", indexName)
	}
	info, err := f.Stat()
	var data []byte
	if err == nil {
		data, err = readAll(f, indexName, int64(l.tune.indexSize))
	}
	var ix *indexFile
	if err == nil {
		ix, err = parseIndex(data)
	}
	if err != nil {
		f.Close()
		return nil, l.fail(err, "read %s", indexName)
	}
	l.swapIndex(ix, f, info)
	return ix, nil
}

// currentIndex returns what was read before if it is still what the file holds, and nil if not.
func (l *Layout) currentIndex() (*indexFile, error) {
	ix := l.index.Load()
	if ix == nil {
		return nil, nil
	}
	now, err := l.fs.Lstat(indexName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, l.fail(err, "read %s", indexName)
	}
	if now.Size() == ix.info.Size() && now.ModTime().Equal(ix.info.ModTime()) && l.fs.SameFile(now, ix.info) {
		return ix, nil
	}
	return nil, nil
}

// replaceIndex writes ix as index.json, durably. The caller holds indexLock.
func (l *Layout) replaceIndex(ix *indexFile) error {
	data := ix.Encode()
	if len(data) > l.tune.indexSize {
		return l.tooLarge(len(data))
	}
	temp := tempName(indexName)
	f, info, err := l.writeFile(temp, data)
	if err != nil {
		return err
	}
	if err := l.nameIndex(ix, temp, f, info); err != nil {
		f.Close()
		l.fs.Remove(temp)
		return err
	}
	if err := l.fs.SyncDir("."); err != nil {
		return err
	}
	ix.durable = true
	return nil
}

// nameIndex makes temp, which f is of, index.json and ix what was read last, in
// one step for those who read: they need not parse what is known here.
func (l *Layout) nameIndex(ix *indexFile, temp string, f disk.File, info fs.FileInfo) error {
	l.reading.Lock()
	defer l.reading.Unlock()
	if closeBeforeRename {
		f.Close()
	}
	if err := l.rename(temp, indexName); err != nil {
		return err
	}
	l.swapIndex(ix, f, info)
	return nil
}

// closeBeforeRename says that an open file cannot be renamed or replaced.
const closeBeforeRename = runtime.GOOS == "windows"

func (l *Layout) swapIndex(ix *indexFile, f disk.File, info fs.FileInfo) {
	ix.f, ix.info = f, info
	if closeBeforeRename {
		f.Close()
		ix.f = nil
	}
	if old := l.index.Swap(ix); old != nil {
		// That was the last hold on a file of megabytes, which takes the system
		// a while to free.
		l.closing.Go(old.close)
	}
}
