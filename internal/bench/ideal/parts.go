package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// partSize is how many bytes of a layer one request is for.
const partSize = 8 << 20

// inParts fetches a blob over several connections. It hashes the parts in their order. Each part
// is read from the file after it was written.
func (f *fetcher) inParts(ctx context.Context, desc ocispec.Descriptor, connections int) error {
	file, err := os.Create(f.path(desc.Digest))
	if err != nil {
		return err
	}
	defer file.Close()
	parts := int((desc.Size + partSize - 1) / partSize)
	next := make(chan int, parts)
	written := make([]chan struct{}, parts)
	for i := range parts {
		next <- i
		written[i] = make(chan struct{})
	}
	close(next)
	group, ctx := errgroup.WithContext(ctx)
	for range connections {
		group.Go(func() error {
			buf := make([]byte, bufferSize)
			for i := range next {
				if err := f.part(ctx, desc, file, int64(i)*partSize, buf); err != nil {
					return err
				}
				close(written[i])
			}
			return nil
		})
	}
	hash := digest.SHA256.Hash()
	group.Go(func() error {
		buf := make([]byte, bufferSize)
		for i := range parts {
			select {
			case <-written[i]:
			case <-ctx.Done():
				return ctx.Err()
			}
			from := int64(i) * partSize
			part := io.NewSectionReader(file, from, min(partSize, desc.Size-from))
			if _, err := io.CopyBuffer(hash, struct{ io.Reader }{part}, buf); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, hash); got != desc.Digest {
		return fmt.Errorf("blob %s: got %s", desc.Digest, got)
	}
	return file.Close()
}

// part fetches and writes the part of a blob that starts at from.
func (f *fetcher) part(ctx context.Context, desc ocispec.Descriptor, file *os.File, from int64, buf []byte) error {
	to := min(from+partSize, desc.Size)
	body, err := f.get(ctx, "/blobs/"+desc.Digest.String(), fmt.Sprintf("bytes=%d-%d", from, to-1))
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.NewOffsetWriter(file, from)}, body, buf)
	if err == nil && n != to-from {
		err = io.ErrUnexpectedEOF
	}
	return err
}
