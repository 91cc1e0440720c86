package unpack

import (
	"context"
	"fmt"
	"hash"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// A blob reads a blob of the store. Read returns io.EOF only if the bytes that it has
// returned have the descriptor's size and digest.
type blob struct {
	io.Closer
	desc ocispec.Descriptor
	r    io.Reader
	h    hash.Hash
	left int64
	done error // what Read returns from now on
}

func (u *unpacker) openBlob(ctx context.Context, desc ocispec.Descriptor) (*blob, error) {
	h, err := verify.New(desc.Digest)
	if err != nil {
		return nil, err
	}
	r, err := u.store.Open(ctx, desc)
	if err != nil {
		return nil, err
	}
	return newBlob(desc, r, r, h), nil
}

func newBlob(desc ocispec.Descriptor, r io.Reader, c io.Closer, h hash.Hash) *blob {
	return &blob{Closer: c, desc: desc, r: r, h: h, left: desc.Size}
}

func (b *blob) Read(p []byte) (int, error) {
	if b.done != nil || len(p) == 0 {
		return 0, b.done
	}
	n, err := b.r.Read(p)
	if int64(n) > b.left {
		b.done = otherSize(b.desc)
		return 0, b.done
	}
	b.left -= int64(n)
	b.h.Write(p[:n])
	if err == io.EOF && b.left > 0 {
		err = otherSize(b.desc)
	} else if err == io.EOF && verify.Sum(b.desc.Digest, b.h) != b.desc.Digest {
		err = ocilayout.Damaged(b.desc)
	}
	b.done = err
	return n, err
}

// end reads on after the last byte of the blob, so that Read compares the digest.
func (b *blob) end() error {
	var one [1]byte
	for {
		n, err := b.Read(one[:])
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case n > 0:
			return otherSize(b.desc)
		}
	}
}

// hashBlob returns an error unless f has the content that desc describes.
func hashBlob(ctx context.Context, desc ocispec.Descriptor, f *os.File) error {
	h, err := verify.New(desc.Digest)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, ocilayout.ContextReader{Ctx: ctx, R: newBlob(desc, f, f, h)})
	return err
}

// otherSize is the error for a blob with more or fewer bytes than the manifest says.
func otherSize(desc ocispec.Descriptor) error {
	return &content.Error{Reason: content.ErrDigestMismatch, Err: fmt.Errorf("blob %s does not have the %d bytes that the manifest says: the manifest is wrong, or the blob is damaged in the store (a layout's Repair removes such a blob)", desc.Digest, desc.Size)}
}
