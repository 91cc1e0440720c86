package rootfs

import (
	"bufio"
	"context"
	"errors"
	"hash"
	"io"
	"math"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/verify"
)

// A layer is one layer of an image, on its way into the root file system.
type layer struct {
	desc   ocispec.Descriptor
	diffID digest.Digest
	spool  *spool
	done   chan struct{} // closed when the layer is decompressed, or failed
}

const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
	// zstdSkippable is in the magic number of a zstd frame with other content, such as the table
	// of contents of zstd:chunked. The byte before it is 0x50 to 0x5f.
	zstdSkippable = "\x2a\x4d\x18"
)

// readSize is how many bytes of a blob are read at a time.
const readSize = 256 << 10

// maxWindow is the largest window of zstd that is read, in bytes. The zstd program has the same
// limit. The specification of zstd asks decoders to support 8 MiB at least.
const maxWindow = 128 << 20

// decompress returns a reader of the layer's tar without its compression. It finds the
// compression in the first bytes, because not all media types name it.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	begin, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch head := string(begin); {
	case strings.HasPrefix(head, gzipMagic):
		return gzip.NewReader(r)
	case head == zstdMagic, len(head) == 4 && head[0]&0xf0 == 0x50 && head[1:] == zstdSkippable:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}

// errRatio is the error for a layer with more bytes than tarLimit returns.
var errRatio = bad(ErrTooLarge, "the layer unpacks to more bytes than Config.MaxRatio allows")

// ratioSlack is how many bytes a layer may unpack to in addition to Config.MaxRatio times its
// size, because a small tar is mostly padding, which compresses well.
const ratioSlack = 1 << 20

// tarLimit returns how many bytes a layer of this size may unpack to.
func tarLimit(size int64, ratio int) int64 {
	if size > (math.MaxInt64-ratioSlack)/int64(ratio) {
		return math.MaxInt64
	}
	return size*int64(ratio) + ratioSlack
}

// fill decompresses the layer into its spool, and compares the digest of its tar with the
// diff ID. It runs in a goroutine of its own for each layer.
func (u *unpacker) fill(ctx context.Context, l *layer) (err error) {
	defer close(l.done)
	defer func() {
		if v := recover(); v != nil {
			err = panics.New(v) // a panic of the Store, which run raises again in the caller's goroutine
		}
		l.spool.end(err)
	}()
	if err := u.wait(ctx, l.desc); err != nil {
		return err
	}
	blob, err := u.store.Open(ctx, l.desc)
	if err != nil {
		return err
	}
	defer blob.Close()
	h, err := verify.New(l.diffID)
	if err != nil {
		return bad(ErrNotImage, "a diff ID of its config: %v", err)
	}
	src := &source{r: ocilayout.ContextReader{Ctx: ctx, R: blob}}
	plain, err := decompress(bufio.NewReaderSize(src, readSize))
	if err != nil {
		return src.cause(err)
	}
	defer plain.Close()
	hashing := newHasher(h)
	if err := copyChunks(plain, tarLimit(l.desc.Size, u.cfg.MaxRatio), hashing, l.spool); err != nil {
		return src.cause(err)
	}
	if got := verify.Sum(l.diffID, h); got != l.diffID {
		return mismatch("the tar of the layer has the digest %s, and the config says %s", got, l.diffID)
	}
	return nil
}

// copyChunks reads r in chunks, and passes each chunk to h and to s. It returns when all chunks
// are hashed.
func copyChunks(r io.Reader, limit int64, h *hasher, s *spool) error {
	defer h.end() // also if the Store panics
	for {
		c := newChunk(2)
		n, err := readFull(r, c.buf)
		c.buf = c.buf[:n]
		if limit -= int64(n); limit < 0 {
			err = errRatio
		}
		if n == 0 || err == errRatio {
			c.release()
			c.release()
		} else {
			h.add(c)
			if err := s.put(c); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readFull is io.ReadFull, except that it returns the reader's own error.
func readFull(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// A hasher hashes chunks in a goroutine of its own, while the next chunks are decompressed.
type hasher struct {
	chunks chan *chunk
	done   chan struct{}
}

func newHasher(h hash.Hash) *hasher {
	r := &hasher{make(chan *chunk, 2), make(chan struct{})}
	go func() {
		defer close(r.done)
		for c := range r.chunks {
			h.Write(c.buf)
			c.release()
		}
	}()
	return r
}

func (r *hasher) add(c *chunk) { r.chunks <- c }

// end waits until all chunks are hashed.
func (r *hasher) end() {
	close(r.chunks)
	<-r.done
}

// A source reads the blob of a layer. It remembers an error of the Store, so that cause does not
// take it for a fault of the layer.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// cause returns the error for err, which copyChunks or decompress has returned: the error of the
// Store if there was one, err itself if it comes from a limit or from the spool, and otherwise an
// error with the reason ErrBadLayer.
func (s *source) cause(err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, ErrTooLarge), errors.Is(err, errLeft):
		return err
	}
	return bad(ErrBadLayer, "%v", err)
}
