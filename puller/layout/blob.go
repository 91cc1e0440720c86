package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
)

// stamp is the modification time of every blob that was verified by this package. A blob
// with another time was changed, or put there by another program, and is hashed before
// it is used.
var stamp = time.Date(2001, time.February, 3, 4, 5, 6, 0, time.UTC)

// touchAfter is how old the last use of a blob is before Has notes a new one: Prune
// spares what was used recently.
const touchAfter = 10 * time.Minute

// tuning is in bytes. Tests set it lower.
type tuning struct {
	listEvery      int64 // written before the side list is appended to: what a killed process must fetch again
	writeBackEvery int64 // written before the disk is asked to begin, so that the sync at the end has little left
	smallBlob      int64 // up to which size blobs are synced together
	indexSize      int   // the most that index.json may have, read or written
}

func defaultTuning() tuning {
	return tuning{listEvery: 128 << 10, writeBackEvery: 4 << 20, smallBlob: 4 << 20, indexSize: maxIndexSize}
}

// blobs are the content of a layout, and what has arrived of content that comes.
type blobs struct {
	*tree
	tune tuning

	arriving atomic.Int64 // ingests that have not all their bytes yet
	commits  *batch[*ingest]
	skipSync atomic.Int64 // how many batches do without SyncFS, which was slow

	named sync.Map    // algorithm directory -> struct{}: its own name is durable
	found atomic.Bool // blobs were found whose names may not be durable; see settleNames
}

func newBlobs(t *tree) *blobs {
	b := &blobs{tree: t, tune: defaultTuning()}
	b.commits = newBatch[*ingest](b.moreArrive)
	b.found.Store(true)
	return b
}

// moreArrive reports whether the next commit is on its way.
func (b *blobs) moreArrive() bool { return b.arriving.Load() > 0 }

func algorithmDir(d digest.Digest) string {
	algorithm, _, _ := strings.Cut(string(d), ":")
	return blobsDir + "/" + algorithm
}

// fileName is a digest as the name of a file that has to do with its blob.
func fileName(d digest.Digest) string { return strings.ReplaceAll(string(d), ":", "-") }

// ready makes the directories that a blob needs, and checks that none of them is a link.
func (b *blobs) ready(d digest.Digest) error {
	dir := algorithmDir(d)
	if err := b.mkdirs(stateDir, ingestDir, blobsDir, dir); err != nil {
		return err
	}
	if _, ok := b.named.Load(dir); ok {
		return nil
	}
	// The process that made the directory may have died before its name was durable.
	if err := b.syncDir(blobsDir); err != nil {
		return err
	}
	b.named.Store(dir, struct{}{})
	return nil
}

// settleNames makes the names of blobs durable that other processes gave. Such a process
// may have died, or had an error, before it synced the directory: the blob's bytes are
// on disk, its name may not be. Names that this process gave are durable when Commit
// returns.
func (b *blobs) settleNames() error {
	if !b.found.Swap(false) {
		return nil
	}
	names := []string{blobsDir}
	for _, a := range algorithms {
		names = append(names, blobsDir+"/"+a)
	}
	for _, name := range names {
		if err := b.settle(name); err != nil {
			b.found.Store(true)
			return err
		}
	}
	return nil
}

// find is has, for a caller that may have tagged what it finds. The blob's name may have
// to be made durable before.
func (b *blobs) find(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	ok, err := b.has(ctx, desc)
	if ok {
		b.found.Store(true)
	}
	return ok, err
}

// has reports whether a blob is stored; see Layout.Has.
func (b *blobs) has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	fi, err := b.fs.Lstat(ocilayout.BlobName(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if fi.IsDir() {
		return false, notAFile(desc.Digest) // a rename does not replace it
	}
	if !fi.Mode().IsRegular() || fi.Size() != desc.Size {
		return false, nil
	}
	if !fi.ModTime().Equal(stamp) {
		return b.rehash(ctx, desc)
	}
	at, now := b.fs.Accessed(fi), b.now()
	if at.IsZero() {
		at = b.lastUse(desc.Digest, fi)
	}
	if now.Sub(at) > touchAfter {
		b.touch(desc.Digest, now)
	}
	return true, nil
}

// notAFile is the error for a name of a blob that is a directory or a link.
func notAFile(d digest.Digest) error {
	return fmt.Errorf("blob %s: %s is not a regular file: move it away and pull its image again", d, ocilayout.BlobName(d))
}

// rehash reports whether a blob's bytes have its digest, and stamps the blob if they
// do. A blob that changes while it is read is not stored.
func (b *blobs) rehash(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	f, err := b.fs.OpenFile(ocilayout.BlobName(desc.Digest), os.O_RDONLY)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, disk.ErrNotRegular) {
			return false, nil
		}
		return false, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return false, err
	}
	got, n, err := hashOf(ctx, desc.Digest, f)
	if err != nil {
		return false, err
	}
	after, err := f.Stat()
	if err != nil {
		return false, err
	}
	if got != desc.Digest || n != desc.Size || !before.ModTime().Equal(after.ModTime()) {
		return false, nil
	}
	return true, b.stampFound(desc.Digest, f)
}

// hashOf reads r to its end and returns its digest, of d's algorithm, and its size.
func hashOf(ctx context.Context, d digest.Digest, r io.Reader) (digest.Digest, int64, error) {
	return ocilayout.Hash(ctx, d, r, make([]byte, ocilayout.HashBuffer))
}

// stampFound stamps a blob that another program wrote and that was found good. Its bytes
// are made durable first, because the stamp says that they are.
func (b *blobs) stampFound(d digest.Digest, f disk.File) error {
	err := b.syncFound(ocilayout.BlobName(d), f)
	if err == nil {
		b.touch(d, b.now())
	}
	if errors.Is(err, errUnsynced) {
		return nil // it is hashed again next time
	}
	return err
}

// errUnsynced says that a blob cannot be synced: the store may only be read, or another
// program replaced the blob just now.
var errUnsynced = errors.New("cannot be synced")

// syncFound syncs a file that was opened for reading. Some systems sync only what was
// opened for writing, so it is opened again for the sync.
func (b *blobs) syncFound(name string, f disk.File) error {
	err := f.Sync()
	if errors.Is(err, disk.ErrNeedsWriting) {
		err = b.syncByWriting(name, f)
	}
	cannot := []error{fs.ErrPermission, fs.ErrNotExist, errors.ErrUnsupported, disk.ErrReadOnly, disk.ErrNotRegular, errOtherFile}
	if slices.ContainsFunc(cannot, func(target error) bool { return errors.Is(err, target) }) {
		return fmt.Errorf("%w: %w", errUnsynced, err)
	}
	return err
}

func (b *blobs) syncByWriting(name string, read disk.File) error {
	f, err := b.fs.OpenFile(name, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	was, err := read.Stat()
	if err != nil {
		return err
	}
	is, err := f.Stat()
	if err != nil {
		return err
	}
	if !b.fs.SameFile(was, is) {
		return fmt.Errorf("%q: %w", name, errOtherFile)
	}
	return f.Sync()
}

// touch stamps a blob that is known to be good, and notes its use. In a store that may
// only be read it cannot, which costs time only.
func (b *blobs) touch(d digest.Digest, now time.Time) {
	err := b.fs.Chtimes(ocilayout.BlobName(d), now, stamp)
	var fi fs.FileInfo
	if err == nil {
		fi, err = b.fs.Lstat(ocilayout.BlobName(d))
	}
	if err != nil {
		b.log.Debug("a blob's times could not be set", "digest", d, "error", err)
		return
	}
	b.noteUse(d, fi, now)
}

// A blob's time of access says when the blob was last used; the layout sets it. Where
// the system or the file system does not keep that time, the layout keeps a note: an
// empty file in usedDir, named after the blob, whose time of modification it is.

// keptWithin is how far a time of access may be from the one that was set: some file
// systems count in steps of two seconds.
const keptWithin = 2 * time.Second

func noteName(d digest.Digest) string { return usedDir + "/" + fileName(d) }

// noteUse makes a note that a blob was used at that time, unless fi shows that the file
// system kept the time of access. fi is of the blob after its times were set.
func (b *blobs) noteUse(d digest.Digest, fi fs.FileInfo, at time.Time) {
	if b.fs.Accessed(fi).Sub(at).Abs() <= keptWithin {
		return
	}
	if err := b.writeNote(d, at); err != nil {
		b.log.Debug("the use of a blob was not noted", "digest", d, "error", err)
	}
}

func (b *blobs) writeNote(d digest.Digest, at time.Time) error {
	if err := b.mkdirs(stateDir, usedDir); err != nil {
		return err
	}
	f, err := b.fs.OpenFile(noteName(d), disk.NewFile)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return b.fs.Chtimes(noteName(d), at, at)
}

// lastUse is when a blob was last used, as far as its times and its note say, and the
// zero time if they do not. A blob that another program wrote was used when it was
// written.
func (b *blobs) lastUse(d digest.Digest, fi fs.FileInfo) time.Time {
	at := b.fs.Accessed(fi)
	if written := fi.ModTime(); !written.Equal(stamp) && written.After(at) {
		at = written
	}
	if note, err := b.fs.Lstat(noteName(d)); err == nil && note.ModTime().After(at) {
		at = note.ModTime()
	}
	return at
}

// openBlob opens a blob; see Layout.Open.
func (b *blobs) openBlob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ok, err := b.find(ctx, desc)
	if err != nil {
		return nil, b.failOrCtx(ctx, err, "open blob %s", desc.Digest)
	}
	if !ok {
		return nil, b.notFound("blob %s of %d bytes is not stored", desc.Digest, desc.Size)
	}
	f, err := b.fs.OpenFile(ocilayout.BlobName(desc.Digest), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.notFound("blob %s was removed", desc.Digest)
	}
	if err != nil {
		return nil, b.fail(err, "open blob %s", desc.Digest)
	}
	return &blobReader{b, f, desc.Digest}, nil
}

// A blobReader names the blob in its errors.
type blobReader struct {
	b *blobs
	f disk.File
	d digest.Digest
}

func (r *blobReader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	return n, r.fail(err)
}

func (r *blobReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.f.ReadAt(p, off)
	return n, r.fail(err)
}

func (r *blobReader) Close() error { return r.fail(r.f.Close()) }

func (r *blobReader) fail(err error) error {
	if err == io.EOF {
		return err
	}
	return r.b.fail(err, "read blob %s", r.d)
}

// documents are the blobs as manifests and indexes are read. What is read for them alone
// is not what a caller may have tagged; see find.
type documents struct{ *blobs }

// Has and Open make documents an ocilayout.Blobs.
func (d documents) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return d.has(ctx, desc)
}

func (d documents) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ok, err := d.has(ctx, desc)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, d.notFound("blob %s is not stored", desc.Digest)
	}
	f, err := d.fs.OpenFile(ocilayout.BlobName(desc.Digest), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.notFound("blob %s is not stored", desc.Digest)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// document reads a stored manifest or index; see ocilayout.Read.
func (b *blobs) document(ctx context.Context, desc ocispec.Descriptor) (*ocilayout.Document, error) {
	return ocilayout.Read(ctx, documents{b}, desc)
}

// complete reports whether an image is stored, whole; see ocilayout.Complete.
func (b *blobs) complete(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return ocilayout.Complete(ctx, documents{b}, desc)
}
