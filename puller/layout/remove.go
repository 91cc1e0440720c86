package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/reference"
)

// A Freed says what was removed.
type Freed struct {
	Blobs int
	Bytes int64
}

// Remove takes ref out of index.json, durably, and removes the blobs that no
// other image there uses. The error wraps fs.ErrNotExist if ref is not tagged; that
// Lookup finds a digest by another name of its repository does not count.
//
// What other tools made of the image under a name of their own, or under a bare
// tag, stays with its blobs. So does an entry under another spelling of ref, such as
// docker.io/busybox:1 beside docker.io/library/busybox:1: Lookup answers with it
// from then on, and another Remove takes it out.
//
// A pull that goes on at the same time may have counted on such a blob: its Tag
// then fails with fs.ErrNotExist, and the next try fetches what is missing. If a
// manifest that others need to be known by cannot be read, the name is removed
// and the blobs stay, with an error; Verify reports which it is.
func (l *Layout) Remove(ctx context.Context, ref reference.Reference) (Freed, error) {
	unlock, err := l.lockForRemoval(ctx)
	if err != nil {
		return Freed{}, err
	}
	defer unlock()
	ix, err := l.readIndex()
	if err != nil {
		return Freed{}, err
	}
	if _, ok := ix.find(ref); !ok {
		return Freed{}, l.notFound("no image %q", ref)
	}
	next := ix.clone()
	next.remove(ref.String())
	if err := l.replaceIndex(next); err != nil {
		return Freed{}, l.fail(err, "remove %q", ref)
	}
	used, err := l.used(ctx, next, next.Entries)
	if err != nil {
		return Freed{}, l.failOrCtx(ctx, err, "remove the blobs of %q", ref)
	}
	removed := slices.DeleteFunc(slices.Clone(ix.Entries), func(e ocilayout.Entry) bool { return e.Ref != ref.String() })
	candidates, err := l.used(ctx, ix, removed)
	if err != nil {
		return Freed{}, l.failOrCtx(ctx, err, "remove the blobs of %q", ref)
	}
	var freed Freed
	for d := range candidates {
		if !used[d] {
			l.removeBlob(d, nil, &freed)
		}
	}
	return freed, nil
}

// A PruneConfig says what Prune spares.
type PruneConfig struct {
	// MinAge is how long ago a blob was last used, or a partial written to, for
	// it to go. Blobs that a pull has fetched, or found there, and not yet
	// tagged are young. Zero means an hour; negative removes all that is not in
	// use at this moment, which is right only when nobody pulls.
	MinAge time.Duration
}

// Prune removes blobs that no image in index.json uses, and partials. The age of a
// blob is that of its time of access, which the layout sets, or of a note in the state
// directory where the file system does not keep that time. A blob of which neither
// tells, because the notes were removed, gets a note and stays until it is old enough,
// unless MinAge is negative.
func (l *Layout) Prune(ctx context.Context, cfg PruneConfig) (Freed, error) {
	if cfg.MinAge == 0 {
		cfg.MinAge = time.Hour
	}
	unlock, err := l.lockForRemoval(ctx)
	if err != nil {
		return Freed{}, err
	}
	defer unlock()
	ix, err := l.readIndex()
	if err != nil {
		return Freed{}, err
	}
	used, err := l.used(ctx, ix, ix.Entries)
	if err != nil {
		return Freed{}, l.failOrCtx(ctx, err, "prune")
	}
	var freed Freed
	err = l.eachBlob(func(d digest.Digest, fi fs.FileInfo) error {
		if !used[d] && l.unusedFor(d, fi, cfg.MinAge) {
			l.removeBlob(d, fi, &freed)
		}
		return ctx.Err()
	})
	if err != nil {
		return freed, l.failOrCtx(ctx, err, "prune")
	}
	l.sweepOlder(max(cfg.MinAge, 0))
	return freed, nil
}

// unusedFor reports whether a blob was not used for so long. One whose last use is not
// known gets a note, so that a later Prune knows how long it has been there.
func (l *Layout) unusedFor(d digest.Digest, fi fs.FileInfo, age time.Duration) bool {
	if age < 0 {
		return true
	}
	at, now := l.lastUse(d, fi), l.cfg.Now()
	if at.IsZero() || at.Equal(stamp) { // a file system may answer one time for the other
		l.noteUse(d, fi, now)
		return false
	}
	return now.Sub(at) > age
}

// lockForRemoval takes the index lock and leaves word for those who will tag
// that something may be gone. See recheck.
func (l *Layout) lockForRemoval(ctx context.Context) (unlock func(), err error) {
	if err := l.mkdirs(stateDir, ingestDir); err != nil {
		return nil, l.fail(err, "remove")
	}
	release, err := l.lock(ctx, indexLock)
	if err != nil {
		return nil, err
	}
	if err := l.leaveWord(); err != nil {
		release()
		return nil, l.fail(err, "remove")
	}
	return func() {
		// Once more, for layouts that were opened meanwhile.
		if err := l.leaveWord(); err != nil {
			l.log.Warn("pulls under way are not told of a removal", "error", err)
		}
		release()
	}, nil
}

func (l *Layout) leaveWord() error {
	f, err := l.createFresh(removalName)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// Two words within a tick of the system's clock may be files of one identity.
	word := time.Unix(rand.Int64N(1<<31), rand.Int64N(1e9))
	return l.fs.Chtimes(removalName, word, word)
}

// failOrCtx is fail, but for the error of a ctx that ended.
func (l *Layout) failOrCtx(ctx context.Context, err error, format string, args ...any) error {
	if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
		return err
	}
	return l.fail(err, format, args...)
}

// removeBlob removes a blob unless somebody is about to store it, or has: if
// seen is not nil, only that file is removed.
func (l *Layout) removeBlob(d digest.Digest, seen fs.FileInfo, freed *Freed) {
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
	l.fs.Remove(noteName(d)) // if there is one
	freed.Blobs++
	freed.Bytes += fi.Size()
}

// used is every digest that entries of ix lead to.
func (l *Layout) used(ctx context.Context, ix *indexFile, entries []ocilayout.Entry) (map[digest.Digest]bool, error) {
	used := make(map[digest.Digest]bool)
	for _, e := range entries {
		shown, claimed, err := e.Decode()
		if err != nil {
			return nil, err
		}
		if err := l.mark(ctx, shown, used); err != nil {
			return nil, err
		}
		copied, err := l.isCopied(ctx, ix, shown, claimed)
		if err != nil {
			return nil, err
		}
		if copied {
			continue
		}
		if err := l.mark(ctx, claimed, used); err != nil {
			return nil, err
		}
	}
	return used, nil
}

// isCopied reports whether an entry's AnnotationResolved was copied along by
// another tool: it names an index that is stored and has no such image. One that
// cannot be read may be the entry's.
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

// mark adds desc and all it leads to.
func (l *Layout) mark(ctx context.Context, desc ocispec.Descriptor, used map[digest.Digest]bool) error {
	for todo := []ocispec.Descriptor{desc}; len(todo) > 0; {
		desc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if used[desc.Digest] || ocilayout.CheckDescriptor(desc) != nil {
			continue // the second cannot be the name of a blob here
		}
		used[desc.Digest] = true
		doc, err := l.document(ctx, desc)
		switch {
		case err == nil:
			todo = append(append(todo, doc.Manifests...), doc.Parts()...)
		case errors.Is(err, ocilayout.ErrNoDocument) && !mediatype.IsIndex(desc.MediaType) && !mediatype.IsManifest(desc.MediaType):
		case errors.Is(err, fs.ErrNotExist):
			if _, err := l.fs.Lstat(ocilayout.BlobName(desc.Digest)); err == nil {
				return fmt.Errorf("manifest %s is damaged, so that what it uses is not known: run Repair, then pull its image again", desc.Digest)
			}
			// the part of another platform
		default:
			return fmt.Errorf("manifest %s cannot be read, so that what it uses is not known: %w", desc.Digest, err)
		}
	}
	return nil
}

// eachBlob calls yield for every blob that is there.
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
			if verify.Digest(d) != nil || !e.Type().IsRegular() {
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
