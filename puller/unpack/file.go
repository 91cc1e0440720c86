package unpack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/regular"
)

// file writes the file of a layer.
func (u *unpacker) file(ctx context.Context, t *tree, p place) error {
	in, err := t.begin(p.layer.Digest, p.name, kindFile)
	if err != nil || in == "" {
		return err
	}
	if err := t.take(p.layer.Size); err != nil {
		return err
	}
	blob, err := u.openBlob(ctx, p.layer)
	if err != nil {
		return err
	}
	defer blob.Close()
	if u.cfg.Link {
		err = u.link(ctx, t, in, p.layer)
	} else {
		err = u.copy(ctx, t, in, blob)
	}
	if err != nil {
		return err
	}
	t.add(entry{Kind: kindFile, Name: in, Layer: p.layer.Digest, Size: p.layer.Size, Digest: p.layer.Digest})
	return nil
}

// copy makes the file a clone of the blob, or writes a copy if the blob cannot be cloned.
func (u *unpacker) copy(ctx context.Context, t *tree, name string, blob *blob) error {
	if done, err := u.tryClone(ctx, t, name, blob.desc); done || err != nil {
		return err
	}
	if err := t.write(ctx, name, 0o644, blob.desc.Size, blob, io.Discard); err != nil {
		return err
	}
	return blob.end()
}

// tryClone makes the file a clone of the blob, if the file is new and the file system can
// clone files. done is false otherwise.
func (u *unpacker) tryClone(ctx context.Context, t *tree, name string, desc ocispec.Descriptor) (done bool, err error) {
	layout, ok := u.store.(Directory)
	if !ok || desc.Size == 0 {
		return false, nil
	}
	from, err := os.OpenFile(blobPath(layout, desc), os.O_RDONLY|regular.NonBlocking, 0)
	if err != nil {
		return false, nil // the error of the copy says what is wrong
	}
	defer from.Close()
	if err := t.before("clone", name); err != nil {
		return false, err
	}
	to, err := t.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer to.Close()
	if u.clone(to, from) != nil {
		return false, nil // copy writes the content into the empty file
	}
	return true, hashBlob(ctx, desc, to)
}

// link makes the file as a hard link to the blob.
func (u *unpacker) link(ctx context.Context, t *tree, name string, desc ocispec.Descriptor) error {
	if err := t.before("link", name); err != nil {
		return err
	}
	if err := t.vacate(name); err != nil {
		return err
	}
	// An os.Root cannot link to a file outside it. os.Link is safe here, because the
	// directories of the path are those of the tree, and not symbolic links.
	to := filepath.Join(t.root.Name(), filepath.FromSlash(name))
	if err := os.Link(blobPath(u.store.(Directory), desc), to); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLink, err)
	}
	if info, err := t.root.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return cmp.Or(err, ocilayout.Damaged(desc))
	}
	if err := t.root.Chmod(name, 0o444); err != nil {
		return err
	}
	f, err := t.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return hashBlob(ctx, desc, f)
}

func blobPath(layout Directory, desc ocispec.Descriptor) string {
	return filepath.Join(layout.Dir(), filepath.FromSlash(ocilayout.BlobName(desc.Digest)))
}
