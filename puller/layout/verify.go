package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
)

// Verify reads every blob and yields its digest, with a nil error if the content has that
// digest. Verify changes nothing; Repair removes wrong blobs.
//
// The error for a blob with other content is of kind content.ErrDigestMismatch. The error
// for a blob that cannot be read is of kind content.ErrStore.
//
// After the blobs, Verify yields the images of which content is missing. The digest is
// that of the descriptor that the name points to. The error wraps fs.ErrNotExist. If a
// manifest cannot be read, the error is of kind content.ErrStore.
//
// An error with an empty digest ends the sequence: the directory could not be read, or
// ctx ended.
func (l *Layout) Verify(ctx context.Context) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		stop := errors.New("stop")
		err := l.eachBlob(func(d digest.Digest, fi fs.FileInfo) error {
			err := l.ifWrong(ctx, d, fi, func(got digest.Digest, _ fs.FileInfo) error {
				return &content.Error{
					Reason: content.ErrDigestMismatch,
					Err:    fmt.Errorf("layout %q: blob %s has content with digest %s: run Repair and pull its image again", l.dir, d, got),
				}
			})
			if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
				return err
			}
			if !yield(d, l.fail(err, "verify")) {
				return stop
			}
			return nil
		})
		if err == nil {
			err = l.verifyImages(ctx, yield, stop)
		}
		if err != nil && err != stop {
			yield("", l.failOrCtx(ctx, err, "verify"))
		}
	}
}

// Repair reads every blob, as Verify does, and removes each blob whose content does not
// have its digest, so that the next pull fetches it again. Repair returns what it
// removed. The error, of kind content.ErrStore, lists the blobs that could not be read or
// removed. Such a blob does not stop Repair: it goes on with the others. Repair keeps all
// names. An image of which a blob was removed counts as incomplete, and a pull of it
// fetches what is missing.
func (l *Layout) Repair(ctx context.Context) (content.Removal, error) {
	var removed content.Removal
	var failed []error
	err := l.eachBlob(func(d digest.Digest, fi fs.FileInfo) error {
		err := l.repairBlob(ctx, d, fi, &removed)
		if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
			return err
		}
		if err != nil {
			failed = append(failed, err)
		}
		return nil
	})
	if err != nil {
		return removed, l.failOrCtx(ctx, err, "repair")
	}
	return removed, l.fail(errors.Join(failed...), "repair")
}

// repairBlob removes a blob whose content has another digest, if the file is still the
// one that was read.
func (l *Layout) repairBlob(ctx context.Context, d digest.Digest, fi fs.FileInfo, removed *content.Removal) error {
	return l.ifWrong(ctx, d, fi, func(got digest.Digest, seen fs.FileInfo) error {
		end, err := l.beginRemoval(ctx)
		if err != nil {
			return err
		}
		defer end()
		before := removed.Blobs
		l.removeBlob(d, seen, removed)
		if removed.Blobs > before {
			return nil
		}
		if now, err := l.fs.Lstat(ocilayout.BlobName(d)); err != nil || !l.fs.SameFile(now, seen) {
			return nil // another process has removed the blob or stored it again
		}
		return fmt.Errorf("blob %s has content with digest %s and could not be removed: either the permission is missing, or a pull is storing the blob", d, got)
	})
}

// ifWrong hashes a blob, and calls found if its content has another digest. The file
// stays open until found returns, so that no other file can get its identity (inode
// number).
func (l *Layout) ifWrong(ctx context.Context, d digest.Digest, fi fs.FileInfo, found func(got digest.Digest, seen fs.FileInfo) error) error {
	if !fi.Mode().IsRegular() {
		return notAFile(d)
	}
	f, err := l.fs.OpenFile(ocilayout.BlobName(d), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another process has removed the blob
	}
	if err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	defer f.Close()
	seen, err := f.Stat()
	var got digest.Digest
	if err == nil {
		got, _, err = hashOf(ctx, d, f)
	}
	if err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	if got == d {
		return nil
	}
	return found(got, seen)
}

// verifyImages yields the images that are not complete; see Verify.
func (l *Layout) verifyImages(ctx context.Context, yield func(digest.Digest, error) bool, stop error) error {
	ix, err := l.readIndex()
	if err != nil {
		return err
	}
	for _, e := range ix.Entries {
		d, err := l.verifyImage(ctx, ix, e)
		if d == "" && err != nil {
			return err
		}
		if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
			return err
		}
		if err != nil && !yield(d, l.fail(err, "verify image %.300q", e.Name)) {
			return stop
		}
	}
	return nil
}

// verifyImage returns the digest that an entry's name points to, and an error if the
// image is not complete.
func (l *Layout) verifyImage(ctx context.Context, ix *indexFile, e ocilayout.Entry) (digest.Digest, error) {
	shown, _, err := e.Decode()
	if err != nil {
		return "", err
	}
	_, resolved, err := l.resolve(ctx, ix, e)
	if err != nil {
		return shown.Digest, err
	}
	for _, desc := range []ocispec.Descriptor{resolved, shown} {
		ok, err := l.complete(ctx, desc)
		if err == nil && !ok {
			err = l.notFound("image %.300q is not whole: pull it again", e.Name)
		}
		if err != nil {
			return resolved.Digest, err
		}
	}
	return resolved.Digest, nil
}
