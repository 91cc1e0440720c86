package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pullkit/pullkit/puller/content"
)

// packedBuffer is the size, in bytes, of the buffers through which an archive is read and
// unpacked.
const packedBuffer = 64 << 10

// tarBlock is the size, in bytes, of a block of a tar, and the least size of a tar.
const tarBlock = 512

// A tarReader reads the files of an archive, plain or compressed.
type tarReader struct {
	tar    *tar.Reader
	rest   *bufio.Reader // the source of tar; end reads on in it after the end of the tar
	packed *bufio.Reader // reads the compressed archive; nil for a plain one
	outer  *format       // format of packed; nil for a plain archive
	begin  []byte        // the first block of the tar, or less if the tar is shorter
	read   int64         // bytes of the tar that were read
	noEnd  bool          // the tar does not have the two blocks of zeros that end a tar
	files  int           // number of files that were read
	holes  int64         // how many more bytes of holes and padding the tar may have
}

// openTar returns a tarReader of an archive. holes is how many bytes of holes the archive's
// files may have. The error has the reason content.ErrBadIndex, or it is the error of r.
func openTar(r io.Reader, holes int64) (*tarReader, error) {
	b := bufio.NewReaderSize(r, packedBuffer)
	begin, err := b.Peek(tarBlock)
	if len(begin) == 0 && err == io.EOF {
		return nil, bad(content.ErrBadIndex, "it is empty: %s", makeArchive)
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	outer := formatOf(begin)
	if outer == nil || outer.unpack == "" {
		return newTarReader(b, begin, holes), nil
	}
	if outer.reader == nil {
		return nil, bad(content.ErrBadIndex, "it is packed with %s, which is not read: unpack it first, for instance with %s", outer.name, outer.unpack)
	}
	unpacked, err := outer.reader(b)
	if err != nil {
		return nil, outer.fail(err)
	}
	packed := b
	b = bufio.NewReaderSize(unpacked, packedBuffer)
	begin, err = b.Peek(tarBlock)
	if len(begin) == 0 && err == io.EOF {
		return nil, bad(content.ErrBadIndex, "it is packed with %s, and nothing is inside: %s", outer.name, makeArchive)
	}
	if err != nil && err != io.EOF {
		return nil, outer.fail(err)
	}
	if inner := formatOf(begin); inner != nil && inner.reader != nil {
		return nil, bad(content.ErrBadIndex, "it is packed twice, with %s inside %s: unpack it once, for instance with %s", inner.name, outer.name, outer.unpack)
	} else if inner != nil && inner.unpack != "" {
		return nil, bad(content.ErrBadIndex, "it is packed twice, with %s inside %s: unpack it first, for instance with %s and then %s",
			inner.name, outer.name, outer.unpack, inner.unpack)
	}
	t := newTarReader(b, begin, holes)
	t.packed, t.outer = packed, outer
	return t, nil
}

func newTarReader(r *bufio.Reader, begin []byte, holes int64) *tarReader {
	t := &tarReader{rest: r, begin: bytes.Clone(begin), holes: holes}
	t.tar = tar.NewReader(countingReader{r, t})
	return t
}

// subject returns the subject of a sentence about the tar, for an error text.
func (t *tarReader) subject() string {
	if t.outer == nil {
		return "it"
	}
	return "the data inside " + t.outer.name
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
	case err == io.EOF:
		if err := t.end(); ctx.Err() != nil {
			return nil, nil, ctx.Err()
		} else if err != nil {
			return nil, nil, err
		}
		if first {
			return nil, nil, bad(content.ErrBadIndex, "%s has no files: %s", t.subject(), makeArchive)
		}
		return nil, nil, io.EOF
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case content.ReasonOf(err) != "":
		return nil, nil, err // the error of the caller's reader
	case first && (errors.Is(err, tar.ErrHeader) || len(t.begin) < tarBlock):
		return nil, nil, t.notTar()
	}
	return nil, nil, bad(content.ErrBadIndex, "file %d: %w", t.files, cutOff(err))
}

// cutOff adds to io.ErrUnexpectedEOF that the archive is cut off, and what to do. It
// returns any other error unchanged.
func cutOff(err error) error {
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("the archive is cut off: copy it again: %w", err)
}

// maybeCutOff returns err. If the tar does not have the blocks of zeros with which a tar
// ends, and err says that content is missing, it adds that the archive may be cut off
// between two files.
func (t *tarReader) maybeCutOff(err error) error {
	if !t.noEnd || content.ReasonOf(err) != content.ErrBadIndex {
		return err
	}
	return fmt.Errorf("%w; the archive does not have the end of a tar, so it may be cut off: copy it again", err)
}

// notTar returns the error for data that is not a tar.
func (t *tarReader) notTar() error {
	what, do := describe(t.begin)
	if f := formatOf(t.begin); f != nil && f.isTar() && len(t.begin) < tarBlock {
		return bad(content.ErrBadIndex, "%s is a tar archive that is cut off: copy it again", t.subject())
	}
	if f := formatOf(t.begin); f != nil && f.isTar() {
		return bad(content.ErrBadIndex, "%s is a damaged tar archive: %s", t.subject(), do)
	}
	return bad(content.ErrBadIndex, "%s is not a tar archive but %s: %s", t.subject(), what, do)
}

// end reads the bytes behind the tar's end. They may be zeros, because programs that
// write tars or tapes pad with them. Other bytes, such as a second archive, are an error,
// because Import would ignore them.
func (t *tarReader) end() error {
	err := t.padding(t.rest)
	switch {
	case t.outer == nil:
		return err
	case err == nil:
		return t.padding(t.packed)
	case content.ReasonOf(err) != "":
		return err
	case !errors.As(err, new(bzip2.StructuralError)):
		return t.outer.fail(err)
	}
	// The bzip2 reader returns an error for zeros behind the last stream, because it
	// expects another stream there.
	if t.packed.UnreadByte() == nil && t.padding(t.packed) == nil {
		return nil
	}
	return bad(content.ErrBadIndex, `%s: %w: import each archive by itself if "cat" joined several, or make or download it again`, t.outer.name, err)
}

// padding reads zeros up to the end of r. It returns an error if it finds another byte,
// or too many zeros.
func (t *tarReader) padding(r *bufio.Reader) error {
	for {
		_, err := r.Peek(1)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		data, _ := r.Peek(r.Buffered())
		zeros := len(data) - len(bytes.TrimLeft(data, "\x00"))
		r.Discard(zeros)
		if zeros < len(data) {
			begin, _ := r.Peek(tarBlock)
			what, _ := describe(begin)
			return bad(content.ErrBadIndex, `its end is followed by %s, as in files that "cat" joined: import each archive by itself, or cut what does not belong to it`, what)
		}
		if t.holes -= int64(zeros); t.holes < 0 {
			return bad(content.ErrTooLarge, "its end is followed by too many zeros: together with the holes of its files they may have at most %d bytes", int64(maxHoles))
		}
	}
}

// A gzipReader unpacks consecutive gzip files as one file. It ends where other data starts.
// A gzip.Reader would return an error for such data.
type gzipReader struct {
	packed *bufio.Reader
	file   *gzip.Reader
}

// newGzipReader returns a gzipReader that unpacks packed.
func newGzipReader(packed *bufio.Reader) (io.Reader, error) {
	file, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	file.Multistream(false)
	return &gzipReader{packed, file}, nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.file.Read(p)
		if n > 0 && err == io.EOF {
			return n, nil
		}
		if err != io.EOF {
			return n, err
		}
		begin, err := g.packed.Peek(len(gzipMagic))
		if string(begin) != gzipMagic {
			if err == nil {
				err = io.EOF
			}
			return 0, err
		}
		if err := g.file.Reset(g.packed); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		g.file.Multistream(false)
	}
}

// A countingReader reads a tar. It counts the bytes, and it notes that the data ended
// where package tar expected more.
type countingReader struct {
	r io.Reader
	t *tarReader
}

func (c countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.t.read += int64(n)
	c.t.noEnd = c.t.noEnd || n == 0 && err == io.EOF
	return n, err
}

// A fileReader reads one file of a tar. Its errors name the archive and the file, so that
// a caller can distinguish them from errors of the store.
//
// The holes of a file are the bytes that the tar does not contain. The tarReader counts
// them for all files, and Read returns an error if they are too many.
type fileReader struct {
	t     *tarReader
	name  string
	start int64 // t.read at the start of the file
	read  int64 // bytes of the file that were read
	holes int64 // bytes among them that were not in the tar
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
	if err != nil && err != io.EOF && content.ReasonOf(err) == "" && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		err = bad(content.ErrBadIndex, "%s: %w", quote(f.name), cutOff(err))
	}
	return n, err
}
