package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/spans"
)

// An incomplete blob has one or two files. The partial holds the bytes that have arrived.
// If it was written with gaps, the side list records the written ranges. Both files
// outlive the process, and the next ingest of the blob continues with them.
//
// The side list is a sequence of records, to which records are only appended. Each record
// is a written range: its offset, its end, and a checksum of both. A crash may leave an
// incomplete or an empty record. The checksum shows it.
const recordSize = 20

// maxListSize is the most bytes of a side list that are read.
const maxListSize = 16 << 20

// mostAppends is the most appends to the side list of a blob. It keeps the list of a very
// large blob short: with 16 connections the list has 10 MiB.
const mostAppends = 32 << 10

// partName returns the name of a blob's partial.
func partName(d digest.Digest) string { return ingestDir + "/" + fileName(d) + partSuffix }

// listName returns the name of the side list of a blob's partial.
func listName(d digest.Digest) string { return ingestDir + "/" + fileName(d) + listSuffix }

// open makes a new partial, or opens the partial that an earlier ingest left and reads
// its side list.
func (in *ingest) open() error {
	part := partName(in.desc.Digest)
	f, err := in.b.fs.OpenFile(part, disk.NewFile)
	if errors.Is(err, fs.ErrExist) {
		if ok, err := in.reopen(part); ok || err != nil {
			return err
		}
		if err := in.removeFiles(); err != nil {
			return err
		}
		f, err = in.b.fs.OpenFile(part, disk.NewFile)
	}
	if err != nil {
		return err
	}
	in.f = f
	// A list of an earlier partial would show fewer ranges than this partial has. For a
	// blob that is too small for a second record a list does not matter.
	if in.desc.Size >= in.b.tune.listEvery {
		if err := in.removeList(); err != nil {
			f.Close()
			return err
		}
	}
	return nil
}

// reopen opens the partial of an earlier ingest. ok is false if the partial is not
// usable: it is a planted link, its side list cannot be read, or it is longer than the
// blob. The last happens if an earlier descriptor gave a wrong size.
func (in *ingest) reopen(part string) (ok bool, err error) {
	f, err := in.b.fs.OpenFile(part, os.O_RDWR)
	if errors.Is(err, disk.ErrNotRegular) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() <= in.desc.Size {
		in.f = f
		if ok, err = in.loadList(fi); ok {
			return true, nil
		}
	}
	f.Close()
	return false, err
}

// loadList reads the side list, which shows the ranges of the partial that were written.
func (in *ingest) loadList(fi fs.FileInfo) (ok bool, err error) {
	list, done, n, err := in.b.openList(in.desc.Digest, fi.Size(), os.O_RDWR)
	if err != nil {
		if errors.Is(err, errUselessList) {
			in.b.log.Warn("a partial blob cannot be used", "digest", in.desc.Digest, "error", err)
			return false, nil
		}
		return false, err
	}
	in.done, in.kept = done, slices.Clone(done)
	if n > 0 {
		in.list, in.listEnd = list, n
		return true, nil
	}
	if list != nil {
		list.Close()
		err = in.removeList()
	}
	return err == nil, err
}

// errUselessList says that a side list exists and cannot be read.
var errUselessList = errors.New("its side list cannot be read")

// openList returns the ranges that were written of a partial of that size. If the list is
// missing or does not have a record, the partial was written without a gap. If the list
// cannot be read, the written ranges are not known, and the error wraps errUselessList.
// list is nil if it is missing; otherwise the caller closes it. n is the length in bytes
// of its valid records.
func (b *blobs) openList(d digest.Digest, size int64, flag int) (list disk.File, done spans.Set, n int64, err error) {
	name := listName(d)
	list, err = b.fs.OpenFile(name, flag)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, done.Add(spans.Span{Off: 0, End: size}), 0, nil
	case errors.Is(err, disk.ErrNotRegular):
		return nil, nil, 0, fmt.Errorf("%w: %w", errUselessList, err)
	case err != nil:
		return nil, nil, 0, err
	}
	data, err := readAll(list, name, maxListSize)
	if err != nil {
		list.Close()
		return nil, nil, 0, fmt.Errorf("%w: %w", errUselessList, err)
	}
	if done, n = parseRecords(data, size); n == 0 {
		done = done.Add(spans.Span{Off: 0, End: size})
	}
	return list, done, n, nil
}

// flushList appends the new ranges to the side list, if there is one. It does not sync
// the list. After SIGKILL the system still has the list. After a loss of power it may not
// have the list. That does no harm, because the next caller hashes the kept bytes.
func (in *ingest) flushList() error {
	if in.list == nil || len(in.fresh) == 0 {
		return nil
	}
	n, err := in.list.WriteAt(appendRecords(nil, in.fresh), in.listEnd)
	if err != nil {
		return err // the next flush writes over the incomplete records
	}
	in.listEnd += int64(n)
	in.fresh, in.unlisted = in.fresh[:0], 0
	return nil
}

// appendRecord appends the record of a range to b.
func appendRecord(b []byte, s spans.Span) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Off))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.End))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
}

// appendRecords appends the records of several ranges to b.
func appendRecords(b []byte, all spans.Set) []byte {
	for _, s := range all {
		b = appendRecord(b, s)
	}
	return b
}

// parseRecords returns the ranges in a side list, cut to size. It stops at the first
// record that is not valid. n is the length in bytes of the records before that one.
func parseRecords(b []byte, size int64) (s spans.Set, n int64) {
	for len(b) >= recordSize {
		off := int64(binary.LittleEndian.Uint64(b))
		end := int64(binary.LittleEndian.Uint64(b[8:]))
		if binary.LittleEndian.Uint32(b[16:]) != crc32.ChecksumIEEE(b[:16]) || off < 0 || end < off {
			break
		}
		s = s.Add(spans.Span{Off: off, End: min(end, size)})
		b, n = b[recordSize:], n+recordSize
	}
	return s, n
}

// removeFiles removes the partial and then its side list. In the other order, a crash
// would leave a partial that looks as if it was written without a gap.
func (in *ingest) removeFiles() error {
	err := in.b.fs.Remove(partName(in.desc.Digest))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return in.removeList()
}

// removeList removes the side list, if there is one.
func (in *ingest) removeList() error {
	err := in.b.fs.Remove(listName(in.desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// keptBytes returns how many bytes of a blob an earlier ingest left; see Layout.Kept.
func (b *blobs) keptBytes(desc ocispec.Descriptor) (int64, error) {
	fi, err := b.fs.Lstat(partName(desc.Digest))
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!fi.Mode().IsRegular() || fi.Size() > desc.Size) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	list, done, _, err := b.openList(desc.Digest, fi.Size(), os.O_RDONLY)
	if errors.Is(err, errUselessList) {
		return 0, nil
	}
	if list != nil {
		list.Close()
	}
	return done.Total(), err
}
