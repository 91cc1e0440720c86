package unpack

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

var errZstd = bad(ErrBadTar, "it is compressed with zstd, which the standard library of Go does not read: pack the artifact without compression or with gzip")

// ratioSlack is how many bytes a tar may unpack to in addition to Config.MaxRatio times its
// size, because a small tar is mostly padding, which compresses well.
const ratioSlack = 1 << 20

// tarLimit returns how many bytes a layer of this size may unpack to.
func tarLimit(size int64, ratio int) int64 {
	if size > (math.MaxInt64-ratioSlack)/int64(ratio) {
		return math.MaxInt64
	}
	return size*int64(ratio) + ratioSlack
}

// errRatio is the error for a tar with more bytes than tarLimit returns.
var errRatio = bad(ErrTooLarge, "the layer unpacks to more bytes than Config.MaxRatio allows")

// A limitReader returns left bytes of r, and then errRatio if r has more.
type limitReader struct {
	r    io.Reader
	left int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	if l.left == 0 {
		var one [1]byte
		n, err := l.r.Read(one[:])
		if n > 0 {
			return 0, errRatio
		}
		return 0, err
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// addTar unpacks a tar, which may be compressed with gzip, into the tree. It reads r to its
// end. If want is not "", it is the digest that the tar must have without its compression.
func (t *tree) addTar(ctx context.Context, p place, r io.Reader, limit int64, want digest.Digest) error {
	plain, err := decompress(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return err
	}
	var all io.Reader = &limitReader{plain, limit}
	h, err := verify.New(want)
	if want != "" && err != nil {
		return bad(ErrBadTar, "annotation %s: %v", annotationDigest, err)
	}
	if want != "" {
		all = io.TeeReader(all, h)
	}
	if err := t.addEntries(ctx, p, all, limit); err != nil {
		return tarError(err)
	}
	if err := readPadding(all); err != nil {
		return tarError(err)
	}
	if want != "" && verify.Sum(want, h) != want {
		return &content.Error{Reason: content.ErrDigestMismatch, Err: errors.New("the tar does not have the digest in the annotation " + annotationDigest)}
	}
	return nil
}

// decompress returns a reader of the tar without its compression. It finds the compression in
// the first bytes, because not all media types name it.
func decompress(r *bufio.Reader) (io.Reader, error) {
	begin, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case strings.HasPrefix(string(begin), gzipMagic):
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, tarError(err)
		}
		z.Multistream(false)
		return &gzipReader{z, r}, nil
	case strings.HasPrefix(string(begin), zstdMagic):
		return nil, errZstd
	}
	return r, nil
}

// A gzipReader reads the members of a gzip file. It accepts zeros after the last member,
// because some programs fill the last block of a file with zeros.
type gzipReader struct {
	z *gzip.Reader
	r *bufio.Reader // what z reads
}

func (g *gzipReader) Read(p []byte) (int, error) {
	n, err := g.z.Read(p)
	if n > 0 && err == io.EOF {
		return n, nil // the next call looks for another member
	}
	if err != io.EOF {
		return n, err
	}
	begin, err := g.r.Peek(len(gzipMagic))
	if string(begin) == gzipMagic {
		if err = g.z.Reset(g.r); err == nil {
			g.z.Multistream(false)
		}
		return 0, err
	}
	if err == nil || err == io.EOF {
		err = readPadding(g.r)
	}
	if err == nil {
		err = io.EOF
	}
	return 0, err
}

// tarError returns an error with the reason ErrBadTar for bytes that cannot be read as a
// tar. It returns other errors as they are.
func tarError(err error) error {
	if e, ok := err.(*Error); ok {
		e.Err = tarError(e.Err)
		return e
	}
	var corrupt flate.CorruptInputError
	for _, known := range []error{tar.ErrHeader, tar.ErrFieldTooLong, gzip.ErrHeader, gzip.ErrChecksum, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) || errors.As(err, &corrupt) {
			return bad(ErrBadTar, "%v", err)
		}
	}
	return err
}

// blockSize is the size of a block of a tar.
const blockSize = 512

// A blockReader remembers the last bytes that were read. A tar ends with two blocks of zeros,
// and package archive/tar does not say whether it has read them. One block of zeros is enough
// here, as it is for package archive/tar and GNU tar.
type blockReader struct {
	r    io.Reader
	n    int64           // how many bytes were read
	last [blockSize]byte // the last of them
}

func (b *blockReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	if n >= blockSize {
		copy(b.last[:], p[n-blockSize:n])
	} else {
		copy(b.last[:], b.last[n:])
		copy(b.last[blockSize-n:], p[:n])
	}
	return n, err
}

// addEntries adds the entries of a tar. It returns errRatio if their files have more than
// limit bytes together. The limit of the tar's own bytes is not enough, because the holes of
// sparse files are not in the tar.
func (t *tree) addEntries(ctx context.Context, p place, r io.Reader, limit int64) error {
	blocks := &blockReader{r: r}
	for in := tar.NewReader(blocks); ; {
		// The rest of an entry is read first, so that Next reads only what is between entries.
		if _, err := io.Copy(io.Discard, ocilayout.ContextReader{Ctx: ctx, R: in}); err != nil {
			return err
		}
		blocks.n = 0
		h, err := in.Next()
		if err == io.EOF && (blocks.n < blockSize || blocks.last != [blockSize]byte{}) {
			return bad(ErrBadTar, "it is cut off: the zeros at its end are missing")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // addEntry decides which names are allowed
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue // comments, such as those of git archive; its other records are not used
		}
		if limit -= max(h.Size, 0); h.Size < 0 || limit < 0 {
			return &Error{File: h.Name, Err: errRatio}
		}
		if err := t.addEntry(ctx, p, h, in); err != nil {
			return &Error{File: h.Name, Err: err}
		}
	}
}

func (t *tree) addEntry(ctx context.Context, p place, h *tar.Header, r io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if p.image && (strings.HasPrefix(name, whiteoutPrefix) || strings.Contains(name, "/"+whiteoutPrefix)) {
		return bad(ErrBadName, "it removes a file of another layer, so this is the layer of an image and not an artifact")
	}
	if h.Typeflag == tar.TypeDir {
		return t.addDir(p.layer.Digest, name)
	}
	if name == "." {
		return bad(ErrBadName, "it is the directory itself")
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		if strings.HasSuffix(h.Name, "/") {
			return bad(ErrBadName, "it is the name of a directory")
		}
		mode := fs.FileMode(0o644)
		if h.Mode&0o100 != 0 {
			mode = 0o755
		}
		return t.addFile(ctx, p.layer.Digest, name, mode, h.Size, r)
	case tar.TypeSymlink:
		return t.addSymlink(p.layer.Digest, name, h.Linkname)
	case tar.TypeLink:
		return t.addLink(p.layer.Digest, name, h.Linkname)
	case tar.TypeChar, tar.TypeBlock:
		return bad(ErrBadType, "it is a device")
	case tar.TypeFifo:
		return bad(ErrBadType, "it is a named pipe")
	}
	return bad(ErrBadType, "it is of type %q", h.Typeflag)
}

// readPadding reads the bytes after the end of a tar, which must be zeros. Other bytes can be
// a second tar, such as one that cat has appended, which some programs read and others do not.
func readPadding(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			return bad(ErrBadTar, "bytes that are not zero follow its end")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
