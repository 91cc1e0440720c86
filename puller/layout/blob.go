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
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
)

// stamp is the modification time of every blob that was verified here. A blob
// with another one was changed, or put there by somebody else, and is hashed
// before it is used.
var stamp = time.Date(2001, time.February, 3, 4, 5, 6, 0, time.UTC)

// touchAfter is how old the last access to a blob is before Has says it anew:
// Prune spares what was used of late.
const touchAfter = 10 * time.Minute

func algorithmDir(d digest.Digest) string {
	algorithm, _, _ := strings.Cut(string(d), ":")
	return blobsDir + "/" + algorithm
}

// Has reports whether desc's content is stored. A blob of another size is not;
// one whose modification time is not that of a blob stored here is hashed
// first. That the bits on disk are still good is for Verify to find out.
func (l *Layout) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return false, err
	}
	ok, err := l.find(ctx, desc)
	return ok, l.failOrCtx(ctx, err, "look for blob %s", desc.Digest)
}

// find is has for those who will have what they find tagged.
func (l *Layout) find(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	ok, err := l.has(ctx, desc)
	if ok {
		l.found.Store(true)
	}
	return ok, err
}

func (l *Layout) has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	name := ocilayout.BlobName(desc.Digest)
	fi, err := l.fs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !fi.Mode().IsRegular() || fi.Size() != desc.Size {
		return false, nil
	}
	now := l.cfg.Now()
	if fi.ModTime().Equal(stamp) {
		at := l.fs.Accessed(fi)
		if at.IsZero() {
			at = l.lastUse(desc.Digest, fi)
		}
		if now.Sub(at) > touchAfter {
			l.touch(desc.Digest, now)
		}
		return true, nil
	}
	return l.rehash(ctx, desc)
}

// touch stamps a blob that is known to be good. That it cannot, in a store that
// may only be read, costs time alone.
func (l *Layout) touch(d digest.Digest, now time.Time) {
	err := l.fs.Chtimes(ocilayout.BlobName(d), now, stamp)
	var fi fs.FileInfo
	if err == nil {
		fi, err = l.fs.Lstat(ocilayout.BlobName(d))
	}
	if err != nil {
		l.log.Debug("a blob's times could not be set", "digest", d, "error", err)
		return
	}
	l.noteUse(d, fi, now)
}

// stampFound stamps a blob that another program wrote and that was found good.
// Its bytes are made durable before the stamp says that they are.
func (l *Layout) stampFound(d digest.Digest, f disk.File) error {
	err := l.syncFound(ocilayout.BlobName(d), f)
	if err == nil {
		l.touch(d, l.cfg.Now())
	}
	if errors.Is(err, errUnsynced) {
		return nil // it is hashed again next time
	}
	return err
}

// errUnsynced says that a blob cannot be synced here: the store may only be read, or
// another program replaced the blob just now.
var errUnsynced = errors.New("cannot be synced")

// syncFound syncs a file that was opened for reading. Some systems sync only what was
// opened for writing, so it is opened again for the sync alone.
func (l *Layout) syncFound(name string, f disk.File) error {
	err := f.Sync()
	if errors.Is(err, disk.ErrNeedsWriting) {
		err = l.syncByWriting(name, f)
	}
	cannot := []error{fs.ErrPermission, fs.ErrNotExist, errors.ErrUnsupported, disk.ErrReadOnly, disk.ErrNotRegular, errOtherFile}
	if slices.ContainsFunc(cannot, func(target error) bool { return errors.Is(err, target) }) {
		return fmt.Errorf("%w: %w", errUnsynced, err)
	}
	return err
}

func (l *Layout) syncByWriting(name string, read disk.File) error {
	f, err := l.fs.OpenFile(name, os.O_RDWR)
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
	if !l.fs.SameFile(was, is) {
		return fmt.Errorf("%q: %w", name, errOtherFile)
	}
	return f.Sync()
}

// rehash reports whether the blob's bytes have its digest, and stamps it if they
// do. A blob that changes while it is read does not.
func (l *Layout) rehash(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	f, err := l.fs.OpenFile(ocilayout.BlobName(desc.Digest), os.O_RDONLY)
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
	return true, l.stampFound(desc.Digest, f)
}

// hashOf reads r to its end and returns its digest, of d's algorithm.
func hashOf(ctx context.Context, d digest.Digest, r io.Reader) (digest.Digest, int64, error) {
	return ocilayout.Hash(ctx, d, r, make([]byte, ocilayout.HashBuffer))
}

// Open reads stored content; it checks what Has does. The reader is an
// io.ReaderAt too. The error wraps fs.ErrNotExist if there is none.
func (l *Layout) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	ok, err := l.find(ctx, desc)
	if err != nil {
		return nil, l.failOrCtx(ctx, err, "open blob %s", desc.Digest)
	}
	if !ok {
		return nil, l.notFound("blob %s of %d bytes is not stored", desc.Digest, desc.Size)
	}
	f, err := l.fs.OpenFile(ocilayout.BlobName(desc.Digest), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, l.notFound("blob %s was removed", desc.Digest)
	}
	if err != nil {
		return nil, l.fail(err, "open blob %s", desc.Digest)
	}
	return &blobReader{l, f, desc.Digest}, nil
}

// A blobReader says of its errors where they are from.
type blobReader struct {
	l *Layout
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
	return r.l.fail(err, "read blob %s", r.d)
}

// readAll reads a file of at most limit bytes.
func readAll(f disk.File, name string, limit int64) ([]byte, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() > limit {
		return nil, fmt.Errorf("%q has %d bytes, more than %d", name, fi.Size(), limit)
	}
	data := make([]byte, fi.Size())
	n, err := f.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return data[:n], nil
}
