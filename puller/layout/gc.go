package layout

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Remove removes ref from index.json, durably, and then removes the blobs that no other
// image in index.json and none of keep uses; see PruneConfig.Keep. Remove does not know
// which images are in use. The error wraps fs.ErrNotExist if ref is not tagged. A digest
// that Lookup finds only under another name of its repository is not tagged.
//
// Remove keeps an image that another tool made of this image under another name or under
// a bare tag, and the blobs of that image. Remove also keeps an entry under another
// spelling of ref, such as docker.io/busybox:1 next to docker.io/library/busybox:1. From
// then on, Lookup answers with that entry, and a second Remove removes it.
//
// A pull that runs at the same time may have found a blob that Remove then removes. The
// Tag of that pull then fails with fs.ErrNotExist, and the next pull fetches what is
// missing.
//
// If Remove cannot read a manifest that index.json or keep leads to, it does not know which
// blobs that manifest uses. It then removes the name, keeps the blobs and returns an error.
// Verify reports the manifest.
func (l *Layout) Remove(ctx context.Context, ref reference.Reference, keep ...digest.Digest) (content.Removal, error) {
	if err := l.checkKeep(keep); err != nil {
		return content.Removal{}, err
	}
	end, err := l.beginRemoval(ctx)
	if err != nil {
		return content.Removal{}, err
	}
	defer end()
	ix, err := l.readIndex()
	if err != nil {
		return content.Removal{}, err
	}
	if _, ok := ix.find(ref); !ok {
		return content.Removal{}, l.notFound("no image %q", ref)
	}
	next := ix.clone()
	next.remove(ref.String())
	if err := l.replaceIndex(next); err != nil {
		return content.Removal{}, l.fail(err, "remove %q", ref)
	}
	used, err := l.used(ctx, next, next.Entries, keep)
	if err != nil {
		return content.Removal{}, l.failOrCtx(ctx, err, "remove the blobs of %q", ref)
	}
	gone := slices.DeleteFunc(slices.Clone(ix.Entries), func(e ocilayout.Entry) bool { return e.Ref != ref.String() })
	candidates, err := l.used(ctx, ix, gone, nil)
	if err != nil {
		return content.Removal{}, l.failOrCtx(ctx, err, "remove the blobs of %q", ref)
	}
	return l.removeBlobs(candidates, used), nil
}

// removeBlobs removes the candidates that are not used.
func (l *Layout) removeBlobs(candidates, used map[digest.Digest]bool) content.Removal {
	var removed content.Removal
	for d := range candidates {
		if !used[d] {
			l.removeBlob(d, nil, &removed)
		}
	}
	return removed
}

// RemoveImage removes all entries of one image from index.json, durably and in one step,
// and then the blobs that no other image in index.json and none of keep uses; see
// PruneConfig.Keep. entries are all entries that List returned with the image's Manifest,
// also those without a whole name. If one of them is not there any more, or another entry has
// the Manifest now, the error wraps content.ErrChanged, and nothing is removed. So a pull that
// has tagged the image under another name meanwhile, or another image under this name, keeps
// what it tagged.
//
// As after Remove, Lookup then answers with the entry that another tool wrote in another
// spelling of a removed name, if there is one with another image.
//
// A pull that runs at the same time may have found a blob that RemoveImage then removes; see
// Remove. If RemoveImage cannot read a manifest of another image or of keep, it does not know
// which blobs that image uses, and removes nothing. If the image's own manifest is damaged and
// not in keep, RemoveImage removes its names, and leaves to Prune the blobs that it does not
// know of. If the disk is so full that index.json cannot be written, RemoveImage removes the
// blobs first.
func (l *Layout) RemoveImage(ctx context.Context, entries []content.Entry, keep []digest.Digest) (content.Removal, error) {
	if len(entries) == 0 {
		return content.Removal{}, &content.Error{Reason: content.ErrBadReference, Err: fmt.Errorf("layout %q: remove an image: no entries were given", l.dir)}
	}
	if err := l.checkKeep(keep); err != nil {
		return content.Removal{}, err
	}
	image := entries[0].Manifest.Digest
	end, err := l.beginRemoval(ctx)
	if err != nil {
		return content.Removal{}, err
	}
	defer end()
	ix, err := l.readIndex()
	if err != nil {
		return content.Removal{}, err
	}
	at, err := l.entriesOf(ctx, ix, image, entries)
	if err != nil {
		return content.Removal{}, l.failOrCtx(ctx, err, "remove image %.80q", image)
	}
	next := ix.clone()
	next.removeAt(at)
	used, err := l.used(ctx, next, next.Entries, keep)
	if err != nil {
		return content.Removal{}, l.failOrCtx(ctx, err, "remove image %s", image)
	}
	gone := make([]ocilayout.Entry, 0, len(at))
	for _, i := range at {
		gone = append(gone, ix.Entries[i])
	}
	candidates, err := l.used(ctx, ix, gone, nil)
	switch {
	case ctx.Err() != nil:
		return content.Removal{}, ctx.Err()
	case err != nil:
		l.log.Warn("the manifest of a removed image cannot be read; Prune removes its blobs", "image", image, "error", err)
		candidates = map[digest.Digest]bool{image: true}
	}
	var removed content.Removal
	err = l.fail(l.replaceIndex(next), "remove image %s", image)
	if errors.Is(err, content.ErrNoSpace) {
		// The names need room that only the blobs can give. An image without its blobs counts
		// as missing.
		removed = l.removeBlobs(candidates, used)
		err = l.fail(l.replaceIndex(next), "remove image %s", image)
	}
	if err != nil {
		return removed, err
	}
	rest := l.removeBlobs(candidates, used)
	return content.Removal{Blobs: removed.Blobs + rest.Blobs, Bytes: removed.Bytes + rest.Bytes}, nil
}

// entriesOf returns the positions of all entries of an image, in ascending order. The error
// wraps content.ErrChanged unless these are the listed ones.
func (l *Layout) entriesOf(ctx context.Context, ix *indexFile, image digest.Digest, listed []content.Entry) ([]int, error) {
	if err := verify.Digest(image); err != nil {
		return nil, &content.Error{Reason: content.ErrBadDigest, Err: err}
	}
	type key struct{ name, manifest, resolved string }
	left := make(map[key]int)
	for _, e := range listed {
		left[key{e.Name, string(e.Manifest.Digest), string(e.Descriptor.Digest)}]++
	}
	var at []int
	for i, e := range ix.Entries {
		shown, resolved, err := l.resolve(ctx, ix, e)
		if err != nil {
			return nil, err
		}
		if shown.Digest != image {
			continue
		}
		k := key{e.Name, string(shown.Digest), string(resolved.Digest)}
		if left[k] == 0 {
			return nil, fmt.Errorf("%w: it has another name now", content.ErrChanged)
		}
		left[k]--
		at = append(at, i)
	}
	if len(at) != len(listed) {
		return nil, fmt.Errorf("%w: %d of its %d entries are there", content.ErrChanged, len(at), len(listed))
	}
	return at, nil
}

// A PruneConfig holds the settings of Prune. The zero PruneConfig is safe while pulls
// run.
type PruneConfig struct {
	// MinAge is the least age at which Prune removes a blob or an incomplete blob. The
	// age of a blob counts from its last use, that of an incomplete blob from the last
	// write to it. Blobs that a running pull has fetched or found, and has not yet
	// tagged, are young. Zero means an hour. A negative value removes everything that is
	// not in use at this moment, which is right only when no pull runs.
	MinAge time.Duration
	// Keep are the digests of manifests and indexes that are kept with all content that they
	// lead to, also if no name leads to them. Such are images that a program still runs after
	// their tags have moved to other images. A digest that is not stored has no effect, and
	// that of a config or a layer keeps only this blob. If a digest is not valid, or if what is
	// stored under it is damaged or cannot be read, nothing is removed, and the error says which
	// digest it is.
	Keep []digest.Digest
}

// Prune removes blobs that no image in index.json and none of cfg.Keep uses, and incomplete
// blobs. If it cannot read one of their manifests, it removes nothing.
//
// The time of the last use of a blob is its time of access, which the layout sets. Where the
// file system does not keep that time, the layout keeps a note in its directory .pullkit. If
// the notes were removed, the last use of a blob may be unknown. Prune then makes a note and
// keeps the blob until the note is old enough. A negative MinAge removes such a blob at once.
func (l *Layout) Prune(ctx context.Context, cfg PruneConfig) (content.Removal, error) {
	if cfg.MinAge == 0 {
		cfg.MinAge = time.Hour
	}
	if err := l.checkKeep(cfg.Keep); err != nil {
		return content.Removal{}, err
	}
	end, err := l.beginRemoval(ctx)
	if err != nil {
		return content.Removal{}, err
	}
	defer end()
	ix, err := l.readIndex()
	if err != nil {
		return content.Removal{}, err
	}
	used, err := l.used(ctx, ix, ix.Entries, cfg.Keep)
	if err != nil {
		return content.Removal{}, l.failOrCtx(ctx, err, "prune")
	}
	var removed content.Removal
	err = l.eachBlob(func(d digest.Digest, fi fs.FileInfo) error {
		if fi.Mode().IsRegular() && !used[d] && l.unusedFor(d, fi, cfg.MinAge) {
			l.removeBlob(d, fi, &removed)
		}
		return ctx.Err()
	})
	if err != nil {
		return removed, l.failOrCtx(ctx, err, "prune")
	}
	l.sweepOlder(max(cfg.MinAge, 0))
	return removed, nil
}

// unusedFor reports whether the last use of a blob is longer ago than age. If the last
// use is not known, unusedFor writes a note, so that a later Prune knows how long the
// blob has been there.
func (l *Layout) unusedFor(d digest.Digest, fi fs.FileInfo, age time.Duration) bool {
	if age < 0 {
		return true
	}
	at, now := l.lastUse(d, fi), l.now()
	if at.IsZero() || at.Equal(stamp) { // some file systems report the modification time as the time of access
		l.noteUse(d, fi, now)
		return false
	}
	return now.Sub(at) > age
}

// beginRemoval takes the index lock and starts a new epoch of removals. A layout that was
// opened in an earlier epoch then knows that content which a pull found may be gone. Its
// Tag checks that all content of the image is stored; see recheck. end ends the removal.
func (l *Layout) beginRemoval(ctx context.Context) (end func(), err error) {
	if err := l.mkdirs(stateDir, ingestDir); err != nil {
		return nil, l.fail(err, "remove")
	}
	unlock, err := l.lock(ctx, indexLock)
	if err != nil {
		return nil, err
	}
	if err := l.newEpoch(); err != nil {
		unlock()
		return nil, l.fail(err, "remove")
	}
	return func() {
		// A second new epoch is for layouts that were opened during the removal.
		if err := l.newEpoch(); err != nil {
			l.log.Warn("running pulls will not notice that blobs were removed", "error", err)
		}
		unlock()
	}, nil
}

// newEpoch replaces the file epochName. The new file may have the same inode number as
// the former one, and the same modification time within a tick of the system's clock. So
// newEpoch sets a random modification time, by which both files differ.
func (l *Layout) newEpoch() error {
	f, err := l.createFresh(epochName)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	at := time.Unix(rand.Int64N(1<<31), rand.Int64N(1e9))
	return l.fs.Chtimes(epochName, at, at)
}

// removeBlob removes a blob, unless another process or goroutine stores that blob now. If
// seen is not nil, removeBlob removes only the file that seen describes, and not a file
// that has replaced it.
func (l *Layout) removeBlob(d digest.Digest, seen fs.FileInfo, removed *content.Removal) {
	unlock, ok := l.tryLock(string(d))
	if !ok {
		return
	}
	defer unlock()
	name := ocilayout.BlobName(d)
	fi, err := l.fs.Lstat(name)
	if err == nil && seen != nil && !l.fs.SameFile(fi, seen) {
		return
	}
	if err == nil {
		err = l.fs.Remove(name)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.log.Warn("a blob could not be removed", "digest", d, "error", err)
		}
		return
	}
	l.fs.Remove(noteName(d)) // the blob may have a note
	removed.Blobs++
	if !disk.HasOtherName(fi) {
		removed.Bytes += fi.Size()
	}
}

// checkKeep returns an error if one of the digests of content to keep is not valid.
func (l *Layout) checkKeep(keep []digest.Digest) error {
	for _, d := range keep {
		if err := verify.Digest(d); err != nil {
			return &content.Error{Reason: content.ErrBadDigest, Err: fmt.Errorf("layout %q: content to keep: %w", l.dir, err)}
		}
	}
	return nil
}

// used returns the digests of all content that entries of ix, and the manifests and indexes
// of keep, lead to.
func (l *Layout) used(ctx context.Context, ix *indexFile, entries []ocilayout.Entry, keep []digest.Digest) (map[digest.Digest]bool, error) {
	m := marking{l, make(map[digest.Digest]bool), make(map[digest.Digest]bool)}
	for _, e := range entries {
		shown, claimed, err := e.Decode()
		if err != nil {
			return nil, err
		}
		if err := m.mark(ctx, shown); err != nil {
			return nil, err
		}
		copied, err := l.isCopied(ctx, ix, shown, claimed)
		if err != nil {
			return nil, err
		}
		if copied {
			continue
		}
		if err := m.mark(ctx, claimed); err != nil {
			return nil, err
		}
	}
	for _, d := range keep {
		// An index is read as a manifest is.
		if err := m.mark(ctx, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d}); err != nil {
			return nil, err
		}
	}
	return m.used, nil
}

// isCopied reports whether another tool copied the AnnotationResolved of an entry from
// another entry. Then the annotation names a stored index that does not list the entry's
// image. If the index cannot be read, the annotation may be the entry's own.
func (l *Layout) isCopied(ctx context.Context, ix *indexFile, shown, claimed ocispec.Descriptor) (bool, error) {
	if claimed.Digest == shown.Digest || ocilayout.CheckDescriptor(claimed) != nil {
		return false, nil
	}
	listed, err := l.lists(ctx, ix, claimed, shown)
	if listed || err != nil {
		return false, err
	}
	return l.has(ctx, claimed)
}

// A marking collects the digests of content that is used.
type marking struct {
	l    *Layout
	used map[digest.Digest]bool
	// read has the manifests and indexes of used that were read. One that another image
	// lists as a layer is used and not read.
	read map[digest.Digest]bool
}

// mark adds desc, and all content that it leads to, to used. It does not read desc's size.
func (m marking) mark(ctx context.Context, desc ocispec.Descriptor) error {
	for todo := []ocispec.Descriptor{desc}; len(todo) > 0; {
		desc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if m.read[desc.Digest] || verify.Digest(desc.Digest) != nil {
			continue // done already, or not the name of a blob
		}
		m.used[desc.Digest] = true
		if !ocilayout.IsDocument(desc.MediaType) {
			continue
		}
		m.read[desc.Digest] = true
		below, err := m.l.below(ctx, desc.Digest)
		switch {
		case err == nil:
			todo = append(todo, below...)
		case errors.Is(err, fs.ErrNotExist):
			// it is a manifest of another platform, which is not stored
		default:
			return fmt.Errorf("manifest %s cannot be read, so the blobs that it uses are not known: %w", desc.Digest, err)
		}
	}
	return nil
}

// below returns what the stored manifest or index with a digest leads to. It verifies the
// digest: after a changed bit, a manifest would lead to other blobs than its image needs. The
// error wraps fs.ErrNotExist if no blob has the digest.
//
// An image of another publisher can list any stored blob as a manifest, and with any size. That
// must not stop all removals, so a blob that is not a manifest and has its digest is no error.
func (l *Layout) below(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	fi, err := l.fs.Lstat(ocilayout.BlobName(d))
	if err != nil {
		return nil, err
	}
	desc := ocispec.Descriptor{Digest: d, Size: fi.Size()}
	if desc.Size <= ocilayout.MaxDocument {
		data, err := ocilayout.ReadVerified(ctx, documents{l.blobs}, desc)
		if err != nil {
			return nil, ifDamaged(err)
		}
		if doc, err := ocilayout.ParseDocument(data); err == nil {
			return append(doc.Manifests, doc.Parts()...), nil
		}
	}
	// Larger content is hashed only if another program has written it, because it can be a
	// layer of gigabytes.
	f, err := documents{l.blobs}.Open(ctx, desc)
	if err != nil {
		return nil, ifDamaged(err)
	}
	defer f.Close()
	return l.mentioned(ctx, f)
}

// ifDamaged returns the error of a manifest that could not be read, or what to do if it is
// damaged.
func ifDamaged(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, content.ErrDigestMismatch) {
		return errors.New("it is damaged: run Repair, then pull its image again")
	}
	return err
}

// digestLens are the lengths of digests by how they start. maxDigest is the largest of them.
var digestLens = map[string]int{"sha256:": 7 + 64, "sha384:": 7 + 96, "sha512:": maxDigest}

const maxDigest = 7 + 128

// digestsIn yields the digests in a text.
func digestsIn(text []byte) iter.Seq[digest.Digest] {
	return func(yield func(digest.Digest) bool) {
		for {
			at := bytes.Index(text, []byte("sha"))
			if at < 0 || len(text)-at < len("sha256:") {
				return
			}
			text = text[at:]
			n := digestLens[string(text[:len("sha256:")])]
			if n > 0 && n <= len(text) {
				if d := digest.Digest(text[:n]); verify.Digest(d) == nil && !yield(d) {
					return
				}
			}
			text = text[len("sha"):]
		}
	}
}

// mentioned returns what content leads to that this package does not read as a manifest. If it
// is a JSON object, another program may do that. Then each digest in its text counts as that of
// a manifest, so that too much is kept and not too little. Other content, such as a layer, leads
// to nothing.
func (l *Layout) mentioned(ctx context.Context, f io.Reader) ([]ocispec.Descriptor, error) {
	text := bufio.NewReaderSize(f, 1<<20)
	head, err := text.Peek(512)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if head = bytes.TrimLeft(head, " \t\r\n"); len(head) > 0 && head[0] != '{' {
		return nil, nil
	}
	stored := make(map[digest.Digest]bool) // only of stored blobs, because a large text can have more digests than fit in memory
	for {
		part, end := text.Peek(text.Size())
		for d := range digestsIn(part) {
			if _, err := l.fs.Lstat(ocilayout.BlobName(d)); err == nil {
				stored[d] = true
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		if end == io.EOF {
			break
		}
		if err := errors.Join(end, ctx.Err()); err != nil {
			return nil, err
		}
		text.Discard(len(part) - maxDigest) // the rest can be the start of a digest
	}
	var all []ocispec.Descriptor
	for d := range stored {
		all = append(all, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d})
	}
	return all, nil
}

// eachBlob calls yield for every file in the directories of blobs whose name is a digest.
// It stops at the first error of yield, and returns the error.
func (l *Layout) eachBlob(yield func(digest.Digest, fs.FileInfo) error) error {
	for _, algorithm := range algorithms {
		entries, err := l.fs.ReadDir(blobsDir + "/" + algorithm)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			d := digest.Digest(algorithm + ":" + e.Name())
			if verify.Digest(d) != nil {
				continue
			}
			fi, err := l.fs.Lstat(ocilayout.BlobName(d))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if err := yield(d, fi); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepEvery is the least time between two sweeps of a layout that stays open.
const sweepEvery = time.Hour

// sweepNow sweeps if the last sweep was long enough ago.
func (l *Layout) sweepNow() {
	// The next sweep is further ahead only if the clock was set back.
	if wait := l.nextSweep.Load() - l.now().UnixNano(); wait <= 0 || wait > int64(sweepEvery) {
		l.sweep()
	}
}

// sweep removes partials, temporary files and lock files that were not written to for
// PartialAge. Those in use are locked or young. No caller asks for a sweep, so its
// failures are only logged.
func (l *Layout) sweep() {
	if l.partialAge < 0 {
		return
	}
	l.nextSweep.Store(l.now().Add(sweepEvery).UnixNano())
	l.sweepOlder(l.partialAge)
}

// sweepOlder removes partials, temporary files and lock files that were not written to for
// age.
func (l *Layout) sweepOlder(age time.Duration) {
	now := l.now()
	limit := now.Add(-age)
	for _, dir := range []string{stateDir, ingestDir} {
		entries, err := l.fs.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.log.Warn("old files could not be looked for", "error", err)
		}
		l.sweepEntries(dir, entries, limit, now)
	}
}

// sweepEntries removes those of a directory's entries that were not written to since
// limit.
func (l *Layout) sweepEntries(dir string, entries []fs.DirEntry, limit, now time.Time) {
	swept := make(map[string]bool)
	for _, e := range entries {
		name := dir + "/" + e.Name()
		switch base, suffix := cutSuffix(e.Name()); {
		case suffix == partSuffix || suffix == listSuffix:
			if !swept[base] {
				swept[base] = true
				l.sweepPartial(dir, base, limit, now)
			}
		case suffix == disk.LockSuffix:
			if l.old(name, limit) {
				l.sweepLock(name, base)
			}
		case strings.HasPrefix(e.Name(), tempBase) && l.old(name, limit):
			l.log.Info("an old temporary file is removed", "name", name)
			l.fs.Remove(name)
		}
	}
}

// cutSuffix cuts name before its last dot.
func cutSuffix(name string) (base, suffix string) {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

// sweepPartial removes a partial and its side list if both are old and no process has the
// lock.
//
// A partial with the stamp was about to become a blob when its process died. Its
// modification time does not show when that was. sweepPartial sets it to the present
// time, so that a later sweep removes the partial. If partials of all ages are to be
// removed, it removes the partial at once.
func (l *Layout) sweepPartial(dir, base string, limit, now time.Time) {
	part, list := dir+"/"+base+partSuffix, dir+"/"+base+listSuffix
	if !l.old(part, limit) || !l.old(list, limit) {
		return
	}
	key := keyOf(base)
	unlock, ok := l.tryLock(key)
	if !ok {
		return
	}
	defer unlock()
	if !l.old(part, limit) || !l.old(list, limit) {
		return
	}
	if fi, err := l.fs.Lstat(part); err == nil && fi.ModTime().Equal(stamp) && limit.Before(now) {
		if err := l.fs.Chtimes(part, now, now); err != nil {
			l.log.Debug("the modification time of a partial blob could not be set", "digest", key, "error", err)
		}
		return
	}
	l.log.Info("an old partial blob is removed", "digest", key)
	if err := l.fs.Remove(part); err == nil || errors.Is(err, fs.ErrNotExist) {
		l.fs.Remove(list) // the list goes last; see removeFiles
	}
}

// sweepLock removes a lock file, unless a process has its lock.
func (l *Layout) sweepLock(name, base string) {
	unlock, ok := l.tryLock(keyOf(base))
	if !ok {
		return
	}
	defer unlock()
	l.log.Info("an old lock file is removed", "name", name)
	l.fs.Remove(name)
}

// keyOf returns the key of the lock that belongs to a file in the state directory. base
// is the file's name without its suffix.
func keyOf(base string) string { return strings.Replace(base, "-", ":", 1) }

// old reports whether a file was not written to since limit. A missing file counts as
// old.
func (l *Layout) old(name string, limit time.Time) bool {
	fi, err := l.fs.Lstat(name)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	return !fi.ModTime().After(limit)
}
