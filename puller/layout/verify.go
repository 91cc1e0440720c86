package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller/content"
)

// Verify reads every blob and yields its digest, with nil if the content is
// right. A blob that is not is removed, so that the next pull fetches it again,
// and yielded with an error of kind content.ErrDigestMismatch, also if it could
// not be removed, which the error says then. One that cannot be read is yielded
// with an error of kind content.ErrStore, and stays. After the blobs come the
// images of which something is missing: the digest is what the name points to,
// the error wraps fs.ErrNotExist, or is of kind content.ErrStore where a manifest
// cannot be read. An error with an empty digest ends the sequence: the directory
// could not be read, or ctx ended.
func (l *Layout) Verify(ctx context.Context) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		stop := errors.New("stop")
		err := l.eachBlob(func(d digest.Digest, fi fs.FileInfo) error {
			err := l.verifyBlob(ctx, d, fi)
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

// verifyBlob hashes one blob; a wrong one it removes, if it is still the one it read.
func (l *Layout) verifyBlob(ctx context.Context, d digest.Digest, before fs.FileInfo) error {
	f, err := l.fs.OpenFile(blobName(d), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since
	}
	if err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	defer f.Close() // not before the end: no other file can have its identity
	got, _, err := hashOf(ctx, d, f)
	if err == nil && got == d && !before.ModTime().Equal(stamp) {
		err = l.stampFound(blobName(d), f)
	}
	if err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	if got == d {
		return nil
	}
	removed, err := l.removeWrong(ctx, d, before)
	if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
		return err
	}
	outcome := "it was removed"
	if !removed {
		if now, err := l.fs.Lstat(blobName(d)); err != nil || !l.fs.SameFile(now, before) {
			return nil // stored anew meanwhile
		}
		if outcome = "it could not be removed"; err != nil {
			outcome += ": " + err.Error()
		}
	}
	return &content.Error{
		Kind: content.ErrDigestMismatch,
		Err:  fmt.Errorf("layout %q: blob %s has content with digest %s; %s", l.dir, d, got, outcome),
	}
}

func (l *Layout) removeWrong(ctx context.Context, d digest.Digest, seen fs.FileInfo) (bool, error) {
	unlock, err := l.lockForRemoval(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	var freed Freed
	l.removeBlob(d, seen, &freed)
	return freed.Blobs > 0, nil
}

func (l *Layout) verifyImages(ctx context.Context, yield func(digest.Digest, error) bool, stop error) error {
	ix, err := l.readIndex()
	if err != nil {
		return err
	}
	for _, e := range ix.entries {
		img, err := imageOf(e)
		if err != nil {
			return err
		}
		ok, err := l.complete(ctx, img.Descriptor)
		if err == nil && ok && img.Manifest.Digest != img.Descriptor.Digest {
			ok, err = l.complete(ctx, img.Manifest)
		}
		if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
			return err
		}
		if err == nil && !ok {
			err = l.notFound("image %.300q is not whole: pull it again", e.name)
		}
		if err != nil && !yield(img.Descriptor.Digest, l.fail(err, "verify image %.300q", e.name)) {
			return stop
		}
	}
	return nil
}
