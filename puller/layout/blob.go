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
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
)

// stamp is the modification time of every blob that this package verified. A blob with
// another modification time was changed or written by another program, and is hashed
// before it is used.
var stamp = time.Date(2001, time.February, 3, 4, 5, 6, 0, time.UTC)

// touchAfter is how long ago the last use of a blob must be for Has to note a new use.
// Prune keeps a blob that was used recently.
const touchAfter = 10 * time.Minute

// tuning holds limits in bytes. Tests set lower ones.
type tuning struct {
	listEvery      int64 // how much is written before a record is added to the side list; a killed process must fetch that much again
	writeBackEvery int64 // how much is written before a WriteBack, so that the sync at the end has little left to do
	smallBlob      int64 // the largest size of a blob that is synced together with others
	indexSize      int   // the largest size of index.json, read or written
}

func defaultTuning() tuning {
	return tuning{listEvery: 128 << 10, writeBackEvery: 4 << 20, smallBlob: 4 << 20, indexSize: maxIndexSize}
}

// A blobs value is the stored blobs of a layout, and the incomplete ones.
type blobs struct {
	*tree
	tune tuning

	arriving arrivals     // ingests whose bytes have not all arrived
	ahead    atomic.Int64 // bytes that ingests reserved and did not write; see free
	commits  *batch[*ingest]
	skipSync atomic.Int64 // how many batches are synced without SyncFS, because the last SyncFS was slow
	entered  sync.Map     // algorithm directory -> struct{}: this process stores blobs there
}

func newBlobs(t *tree) *blobs {
	b := &blobs{tree: t, tune: defaultTuning()}
	b.commits = newBatch[*ingest](b.arriving.over)
	for _, a := range algorithms {
		b.note(blobsDir + "/" + a)
	}
	return b
}

// algorithmDir returns the directory of the blobs with d's algorithm.
func algorithmDir(d digest.Digest) string {
	algorithm, _, _ := strings.Cut(string(d), ":")
	return blobsDir + "/" + algorithm
}

// fileName returns the base name, without suffix, of the files in the state directory
// that belong to a blob: its digest with a dash in place of the colon.
func fileName(d digest.Digest) string { return strings.ReplaceAll(string(d), ":", "-") }

// ready makes the directories that a blob needs. It returns an error if one of them is a
// link.
func (b *blobs) ready(d digest.Digest) error {
	dir := algorithmDir(d)
	if err := b.mkdirs(stateDir, ingestDir, blobsDir, dir); err != nil {
		return err
	}
	if _, ok := b.entered.Load(dir); !ok {
		b.note(blobsDir) // another process may have made the directory and died
		b.entered.Store(dir, struct{}{})
	}
	return nil
}

// hasToTag reports whether a blob is stored, for a caller that may tag the blob. Another
// process may have given the blob its name and died before the name was durable. So
// hasToTag notes the blob's directory, and the tag makes the names in it durable.
func (b *blobs) hasToTag(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	ok, err := b.has(ctx, desc)
	if ok {
		b.note(blobsDir, algorithmDir(desc.Digest))
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
		return false, notAFile(desc.Digest) // a rename does not replace a directory
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

// notAFile returns the error for a blob whose name is that of a directory or a link.
func notAFile(d digest.Digest) error {
	return fmt.Errorf("blob %s: %s is not a regular file: move it away and pull its image again", d, ocilayout.BlobName(d))
}

// rehash hashes a blob and reports whether its bytes have its digest. If they do, it
// stamps the blob. A blob that changes while it is read counts as missing.
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

// hashOf reads r to its end. It returns the digest of the bytes, with the algorithm of d,
// and their number.
func hashOf(ctx context.Context, d digest.Digest, r io.Reader) (digest.Digest, int64, error) {
	return ocilayout.Hash(ctx, d, r, make([]byte, ocilayout.HashBuffer))
}

// stampFound stamps a blob that another program wrote and whose content is right. It
// first makes the blob's bytes durable, because the stamp says that they are.
func (b *blobs) stampFound(d digest.Digest, f disk.File) error {
	err := b.syncFound(ocilayout.BlobName(d), f)
	if err == nil {
		b.touch(d, b.now())
	}
	if errors.Is(err, errUnsynced) {
		return nil // the blob is hashed again at its next use
	}
	return err
}

// errUnsynced says that a blob cannot be synced, because the layout is read-only or
// another program has just replaced the blob.
var errUnsynced = errors.New("cannot be synced")

// syncFound syncs a file that was opened for reading. Some systems sync a file only if it
// was opened for writing. On such a system syncFound opens the file again.
func (t *tree) syncFound(name string, f disk.File) error {
	err := f.Sync()
	if errors.Is(err, disk.ErrNeedsWriting) {
		err = t.syncByWriting(name, f)
	}
	cannot := []error{fs.ErrPermission, fs.ErrNotExist, errors.ErrUnsupported, disk.ErrReadOnly, disk.ErrNotRegular, errOtherFile}
	if slices.ContainsFunc(cannot, func(target error) bool { return errors.Is(err, target) }) {
		return fmt.Errorf("%w: %w", errUnsynced, err)
	}
	return err
}

// syncByWriting opens a file for writing and syncs it. read is the same file, opened for
// reading.
func (t *tree) syncByWriting(name string, read disk.File) error {
	f, err := t.fs.OpenFile(name, os.O_RDWR)
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
	if !t.fs.SameFile(was, is) {
		return fmt.Errorf("%q: %w", name, errOtherFile)
	}
	return f.Sync()
}

// touch stamps a blob whose content is right, and notes its use. In a read-only layout it
// only logs the failure. A blob that another program wrote is then hashed at each use.
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

// A blob's time of access is the time of its last use. The layout sets it. Where the
// system or the file system does not keep that time, the layout writes a note. The note
// is an empty file in usedDir, named after the blob. Its modification time is the time of
// the last use.

// keptWithin is the most that a time of access may differ from the time that was set,
// because some file systems count in steps of two seconds.
const keptWithin = 2 * time.Second

// noteName returns the name of the note of a blob.
func noteName(d digest.Digest) string { return usedDir + "/" + fileName(d) }

// noteUse writes a note that a blob was used at that time, unless fi shows that the file
// system kept the time of access. fi describes the blob after its times were set.
func (b *blobs) noteUse(d digest.Digest, fi fs.FileInfo, at time.Time) {
	if b.fs.Accessed(fi).Sub(at).Abs() <= keptWithin {
		return
	}
	if err := b.writeNote(d, at); err != nil {
		b.log.Debug("the use of a blob was not noted", "digest", d, "error", err)
	}
}

// writeNote writes the note of a blob, or changes its time.
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

// lastUse returns when a blob was last used, as its times and its note show, or the zero
// time if they do not show it. The write of a blob by another program counts as a use.
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
	ok, err := b.hasToTag(ctx, desc)
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

// A blobReader reads a blob. Its errors name the blob.
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

// Seek sets the offset of the next Read.
func (r *blobReader) Seek(offset int64, whence int) (int64, error) {
	n, err := r.f.Seek(offset, whence)
	return n, r.fail(err)
}

// SyscallConn gives net the file itself, so that the system copies its bytes to a network
// connection without the process (sendfile).
func (r *blobReader) SyscallConn() (syscall.RawConn, error) {
	f, ok := r.f.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return f.SyscallConn()
}

func (r *blobReader) fail(err error) error {
	if err == io.EOF {
		return err
	}
	return r.b.fail(err, "read blob %s", r.d)
}

// A documents value gives ocilayout the stored blobs. It uses has and not hasToTag,
// because its callers only read the blob as a manifest or an index, and do not tag it.
type documents struct{ *blobs }

// Has reports whether a blob is stored; see Layout.Has.
func (d documents) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return d.has(ctx, desc)
}

// Open opens a stored blob for reading.
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

// document returns a stored manifest or index; see ocilayout.Read.
func (b *blobs) document(ctx context.Context, desc ocispec.Descriptor) (*ocilayout.Document, error) {
	return ocilayout.Read(ctx, documents{b}, desc)
}

// complete reports whether all content of an image is stored; see ocilayout.Complete.
func (b *blobs) complete(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return ocilayout.Complete(ctx, documents{b}, desc)
}
