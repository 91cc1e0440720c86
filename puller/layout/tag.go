package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// An edit changes index.json; it is called with a copy that is its own.
type edit func(ctx context.Context, ix *indexFile) error

// Lookup returns what ref was tagged with: an index, where that is what the
// name points to, though only one of its manifests may be stored. An entry that
// another tool wrote counts if one of its two annotations is ref's whole name.
// The error wraps fs.ErrNotExist if ref is not tagged.
func (l *Layout) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	ix, err := l.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	i, ok := ix.byName[ref.String()]
	if !ok || ref.IsZero() {
		return ocispec.Descriptor{}, l.notFound("no image %q", ref)
	}
	desc, err := l.target(ctx, ix.entries[i].raw)
	if err != nil {
		return ocispec.Descriptor{}, l.failOrCtx(ctx, err, "look up %q", ref)
	}
	return desc, nil
}

// target is what an entry's name resolved to, or what it shows if that is not
// stored: other tools, which see no use for the index, may have removed it.
func (l *Layout) target(ctx context.Context, raw []byte) (ocispec.Descriptor, error) {
	shown, resolved, err := decodeEntry(raw)
	if err == nil {
		err = checkDesc(shown)
	}
	if err != nil || shown.Digest == resolved.Digest || checkDesc(resolved) != nil {
		return shown, err
	}
	ok, err := l.has(ctx, resolved)
	if !ok {
		return shown, err
	}
	return resolved, nil
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
// that desc needs, is not stored.
func (l *Layout) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	if ref.IsZero() {
		return &content.Error{Kind: content.ErrBadReference, Err: fmt.Errorf("layout %q: tag: no name", l.dir)}
	}
	if err := checkDesc(desc); err != nil {
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
		ix.set(e)
		return nil
	})
	if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
		return err
	}
	return l.fail(err, "tag %q", ref)
}

// entryFor makes the entry that names desc.
func (l *Layout) entryFor(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) (entry, error) {
	ok, err := l.has(ctx, desc)
	if err != nil {
		return entry{}, err
	}
	if !ok {
		return entry{}, l.notFound("tag %q: blob %s is not stored", ref, desc.Digest)
	}
	shown, err := l.onlyImage(ctx, desc)
	if err != nil {
		return entry{}, err
	}
	desc.Data, shown.Data = nil, nil // the content is stored, not a part of its name
	shown.Annotations = maps.Clone(shown.Annotations)
	if shown.Annotations == nil {
		shown.Annotations = make(map[string]string)
	}
	if shown.Digest != desc.Digest {
		resolved, err := json.Marshal(desc)
		if err != nil {
			return entry{}, err
		}
		shown.Annotations[annotationResolved] = string(resolved)
	}
	name := ref.String()
	shown.Annotations[ocispec.AnnotationRefName] = name
	shown.Annotations[annotationImage] = name
	raw, err := json.Marshal(shown)
	return entry{name: name, raw: raw}, err
}

// decodeEntry gives the descriptor an entry shows and the one its name resolved
// to, without the annotations that are the layout's own. Neither is checked.
func decodeEntry(raw []byte) (shown, resolved ocispec.Descriptor, err error) {
	if err := json.Unmarshal(raw, &shown); err != nil {
		return shown, resolved, fmt.Errorf("%s: an entry is no descriptor: %w", indexName, err)
	}
	kept := shown.Annotations[annotationResolved]
	delete(shown.Annotations, annotationResolved)
	delete(shown.Annotations, ocispec.AnnotationRefName)
	delete(shown.Annotations, annotationImage)
	if len(shown.Annotations) == 0 {
		shown.Annotations = nil
	}
	if kept == "" {
		return shown, shown, nil
	}
	if err := json.Unmarshal([]byte(kept), &resolved); err != nil {
		return shown, resolved, fmt.Errorf("%s: annotation %s: %w", indexName, annotationResolved, err)
	}
	return shown, resolved, nil
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
		data, err = readAll(f, indexName, maxIndexSize)
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
	temp := tempName(indexName)
	f, info, err := l.writeFile(temp, ix.encode())
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
func (l *Layout) nameIndex(ix *indexFile, temp string, f file, info fs.FileInfo) error {
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

func (l *Layout) swapIndex(ix *indexFile, f file, info fs.FileInfo) {
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
