package layout

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"io"

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
	unpack string // the command that unpacks it
	reader func(io.Reader) (io.Reader, error)
}

// zstdMagic begins a frame of zstd. Before it there may be frames to be skipped.
const zstdMagic = "\x28\xb5\x2f\xfd"

var packings = []packing{
	{"\x1f\x8b", "gzip", "gzip -d", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
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

// An unpacked is what an archive holds when it is unpacked.
type unpacked struct {
	r       io.Reader
	begin   string // its first bytes, without zeros at the end
	short   bool   // it has less than one block
	packing string // what it was packed with; "" if it was not
}

func newUnpacked(r io.Reader, begin []byte, packing string) unpacked {
	return unpacked{
		r: r, begin: string(bytes.TrimRight(begin[:min(len(begin), 40)], "\x00")),
		short: len(begin) < tarBlock, packing: packing,
	}
}

// subject begins a sentence of an error about the archive.
func (u unpacked) subject() string {
	if u.packing == "" {
		return "it"
	}
	return "what " + u.packing + " unpacks to"
}

// unpack reads the tar that an archive is, plain or packed. The error is of kind
// content.ErrBadIndex, or the reader's own.
func unpack(b *bufio.Reader) (unpacked, error) {
	begin, err := b.Peek(tarBlock)
	if len(begin) == 0 && err == io.EOF {
		return unpacked{}, bad(content.ErrBadIndex, "it is empty")
	}
	if err != nil && err != io.EOF {
		return unpacked{}, err
	}
	outer := packingOf(begin)
	if outer == nil {
		return newUnpacked(b, begin, ""), nil
	}
	if outer.reader == nil {
		return unpacked{}, bad(content.ErrBadIndex, "it is packed with %s, which is not read: unpack it first, for instance with %q", outer.name, outer.unpack)
	}
	r, err := outer.reader(b)
	if err != nil {
		return unpacked{}, outer.fail(err)
	}
	b = bufio.NewReaderSize(r, packedBuffer)
	begin, err = b.Peek(tarBlock)
	if len(begin) == 0 && err == io.EOF {
		return unpacked{}, bad(content.ErrBadIndex, "it is packed with %s, and nothing is inside", outer.name)
	}
	if err != nil && err != io.EOF {
		return unpacked{}, outer.fail(err)
	}
	if inner := packingOf(begin); inner != nil && inner.reader != nil {
		return unpacked{}, bad(content.ErrBadIndex, "it is packed twice, with %s inside %s: unpack it once, for instance with %q", inner.name, outer.name, outer.unpack)
	} else if inner != nil {
		return unpacked{}, bad(content.ErrBadIndex, "it is packed twice, with %s inside %s: unpack it first, for instance with %q and then %q",
			inner.name, outer.name, outer.unpack, inner.unpack)
	}
	return newUnpacked(b, begin, outer.name), nil
}

// fail is the error for what cannot be unpacked, unless it is one of the reader
// that the archive comes from.
func (p *packing) fail(err error) error {
	if content.KindOf(err) != "" {
		return err
	}
	return bad(content.ErrBadIndex, "%s: %w", p.name, err)
}
