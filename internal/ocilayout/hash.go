package ocilayout

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/verify"
)

// HashBuffer is a good length, in bytes, of the buffer for Hash.
const HashBuffer = 256 << 10

// Hash reads r to its end and returns the digest of the bytes, with the algorithm of d, and
// their number. It stops with ctx's error when ctx ends. buf is the buffer for reading.
func Hash(ctx context.Context, d digest.Digest, r io.Reader, buf []byte) (digest.Digest, int64, error) {
	h, err := verify.New(d)
	if err != nil {
		return "", 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, ContextReader{ctx, r}, buf)
	if err != nil {
		return "", n, err
	}
	return verify.Sum(d, h), n, nil
}

// A ContextReader reads R until Ctx ends. Then Read returns Ctx's error.
type ContextReader struct {
	Ctx context.Context
	R   io.Reader
}

func (r ContextReader) Read(p []byte) (int, error) {
	if err := r.Ctx.Err(); err != nil {
		return 0, err
	}
	return r.R.Read(p)
}
