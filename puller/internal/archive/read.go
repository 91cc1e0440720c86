package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"io"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

// packedBuffer is the size of the buffers that an archive is read and unpacked through.
const packedBuffer = 64 << 10

// tarBlock is the size of a tar's blocks: the least that a tar archive has.
const tarBlock = 512

// A packing is a format that an archive may be packed with.
type packing struct {
	magic  string // how it begins
	name   string
	unpack string                             // the command that unpacks it
	reader func(io.Reader) (io.Reader, error) // nil for one that is not read
}

// zstdMagic begins a frame of zstd. Before it there may be frames to be skipped.
const zstdMagic = "\x28\xb5\x2f\xfd"

// gzipMagic begins a gzip file.
const gzipMagic = "\x1f\x8b"

var packings = []packing{
	{gzipMagic, "gzip", "gzip -d", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"BZh", "bzip2", "bzip2 -d", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{zstdMagic, "zstd", "zstd -d", nil},
	{"\xfd7zXZ\x00", "xz", "xz -d", nil},
	{"\x04\x22\x4d\x18", "lz4", "lz4 -d", nil},
	{"LZIP", "lzip", "lzip -d", nil},
	{"\x5d\x00\x00", "lzma", "xz -d", nil},
	{"\x1f\x9d", "compress", "uncompress", nil},
	{"PK\x03\x04", "zip", "unzip", nil},
	{"7z\xbc\xaf\x27\x1c", "7z", "7z x", nil},
}

// packingOf returns the format of bytes that begin so, and nil if it is not one of them.
func packingOf(begin []byte) *packing {
	// zstd's skippable frames are of sixteen kinds.
	if len(begin) > 3 && begin[0]&0xf0 == 0x50 && string(begin[1:4]) == "\x2a\x4d\x18" {
		begin = []byte(zstdMagic)
	}
	for i, p := range packings {
		if bytes.HasPrefix(begin, []byte(p.magic)) {
			return &packings[i]
		}
	}
	return nil
}

// fail is the error for what cannot be unpacked, unless it is one of the reader
// that the archive comes from.
func (p *packing) fail(err error) error {
	if content.KindOf(err) != "" {
		return err
	}
	return bad(content.ErrBadIndex, "%s: %w", p.name, err)
}

// A tarReader reads the files of an archive, whatever the archive is packed with.
type tarReader struct {
	tar     *tar.Reader
	read    int64  // bytes of the tar so far
	files   int    // so far
	holes   int64  // how many bytes of holes its files may still have
	packing string // what the archive is packed with; "" if it is not
	begin   string // the first bytes of the tar, without zeros at the end
	short   bool   // it has less than one block
}

// openTar begins to read an archive whose files may have so many bytes of holes. The error is of kind content.ErrBadIndex, or the
// reader's own.
func openTar(r io.Reader, holes int64) (*tarReader, error) {
	b := bufio.NewReaderSize(r, packedBuffer)
	begin, err := b.Peek(tarBlock)
	if len(begin) == 0 && err == io.EOF {
		return nil, bad(content.ErrBadIndex, "it is empty")
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	outer := packingOf(begin)
	if outer == nil {
		return newTarReader(b, begin, "", holes), nil
	}
	if outer.reader == nil {
		return nil, bad(content.ErrBadIndex, "it is packed with %s, which is not read: unpack it first, for instance with %q", outer.name, outer.unpack)
	}
	unpacked, err := outer.reader(b)
	if err != nil {
		return nil, outer.fail(err)
	}
	b = bufio.NewReaderSize(unpacked, packedBuffer)
	begin, err = b.Peek(tarBlock)
	if len(begin) == 0 && err == io.EOF {
		return nil, bad(content.ErrBadIndex, "it is packed with %s, and nothing is inside", outer.name)
	}
	if err != nil && err != io.EOF {
		return nil, outer.fail(err)
	}
	if inner := packingOf(begin); inner != nil && inner.reader != nil {
		return nil, bad(content.ErrBadIndex, "it is packed twice, with %s inside %s: unpack it once, for instance with %q", inner.name, outer.name, outer.unpack)
	} else if inner != nil {
		return nil, bad(content.ErrBadIndex, "it is packed twice, with %s inside %s: unpack it first, for instance with %q and then %q",
			inner.name, outer.name, outer.unpack, inner.unpack)
	}
	return newTarReader(b, begin, outer.name, holes), nil
}

func newTarReader(r io.Reader, begin []byte, packing string, holes int64) *tarReader {
	t := &tarReader{
		holes: holes, packing: packing, short: len(begin) < tarBlock,
		begin: string(bytes.TrimRight(begin[:min(len(begin), 40)], "\x00")),
	}
	t.tar = tar.NewReader(countingReader{r, &t.read})
	return t
}

// subject begins a sentence of an error about the tar.
func (t *tarReader) subject() string {
	if t.packing == "" {
		return "it"
	}
	return "what " + t.packing + " unpacks to"
}

// next returns the next file of the tar, and io.EOF after the last.
func (t *tarReader) next(ctx context.Context) (*tar.Header, io.Reader, error) {
	hdr, err := t.tar.Next()
	first := t.files == 0
	t.files++
	switch {
	case err == nil && t.files > maxFiles:
		return nil, nil, bad(content.ErrTooLarge, "more than %d files", maxFiles)
	case err == nil:
		return hdr, &fileReader{t: t, name: hdr.Name, start: t.read}, nil
	case err == io.EOF && first:
		return nil, nil, bad(content.ErrBadIndex, "%s has no files", t.subject())
	case err == io.EOF:
		return nil, nil, err
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case content.KindOf(err) != "":
		return nil, nil, err // the reader's own
	case first && (errors.Is(err, tar.ErrHeader) || t.short):
		return nil, nil, bad(content.ErrBadIndex, "%s is not a tar archive: it begins with %s", t.subject(), redact.Quote(t.begin, 80))
	}
	return nil, nil, bad(content.ErrBadIndex, "file %d: %w", t.files, err)
}

// A countingReader counts the bytes that are read.
type countingReader struct {
	r io.Reader
	n *int64
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

// A fileReader reads one file of a tar. Its errors say that they are the
// archive's, not the store's. It ends when the archive has too many holes: bytes that
// were read from its files without being in the tar.
type fileReader struct {
	t     *tarReader
	name  string
	start int64 // t.read at the beginning of the file
	read  int64 // bytes of the file
	holes int64 // those of them that were not in the tar
}

func (f *fileReader) Read(p []byte) (int, error) {
	n, err := f.t.tar.Read(p)
	f.read += int64(n)
	holes := max(f.holes, f.read-(f.t.read-f.start))
	f.t.holes -= holes - f.holes
	f.holes = holes
	if f.t.holes < 0 {
		return n, bad(content.ErrTooLarge, "%s: its files have more than %d bytes of holes: pack it without --sparse", quote(f.name), maxHoles)
	}
	if err != nil && err != io.EOF && content.KindOf(err) == "" && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = bad(content.ErrBadIndex, "%s: %w", quote(f.name), err)
	}
	return n, err
}
