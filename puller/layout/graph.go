package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
)

// storedBlobs are the blobs of a layout as its documents are read: what is found does
// not count as what will be tagged; see find.
type storedBlobs struct{ *Layout }

func (b storedBlobs) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return b.has(ctx, desc)
}

func (b storedBlobs) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ok, err := b.has(ctx, desc)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, b.notFound("blob %s is not stored", desc.Digest)
	}
	f, err := b.fs.OpenFile(ocilayout.BlobName(desc.Digest), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.notFound("blob %s is not stored", desc.Digest)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// document reads a stored manifest or index; see ocilayout.Read.
func (l *Layout) document(ctx context.Context, desc ocispec.Descriptor) (*ocilayout.Document, error) {
	return ocilayout.Read(ctx, storedBlobs{l}, desc)
}

// complete reports whether an image is stored, whole; see ocilayout.Complete.
func (l *Layout) complete(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	return ocilayout.Complete(ctx, storedBlobs{l}, desc)
}

// recheck is called with the index lock held, which Remove and Prune hold too:
// what a pull found to be there may have been removed before it came to tag.
// As long as nobody removed anything since the layout was opened, there is
// nothing to check.
func (l *Layout) recheck(ctx context.Context, desc ocispec.Descriptor) error {
	now, err := l.fs.Lstat(removalName)
	if errors.Is(err, fs.ErrNotExist) && l.removals == nil {
		return nil
	}
	if err == nil && l.removals != nil && l.fs.SameFile(now, l.removals) && now.ModTime().Equal(l.removals.ModTime()) {
		return nil
	}
	ok, err := l.complete(ctx, desc)
	if err == nil && !ok {
		err = &content.Error{
			Kind: content.ErrNotFound,
			Err:  fmt.Errorf("layout %q: something that %s needs was removed meanwhile; pull it again", l.dir, desc.Digest),
		}
	}
	return err
}
