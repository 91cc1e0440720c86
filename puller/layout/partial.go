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

// The files of a blob that arrives are its partial and, if it was written with gaps, the
// side list of the partial. They outlive the process, and the next ingest of the blob
// goes on with them.
//
// The side list is a sequence of records, which is only appended to. Each record is a
// range that was written: offset, end, and a checksum of both, so that a record that is
// torn or empty after a crash is not believed.
const recordSize = 20

// maxListSize limits how much of a side list is read.
const maxListSize = 16 << 20

// mostAppends is how often a blob's side list is appended to at most, which keeps the
// list of a very large blob short: 16 connections make one of 10 MiB.
const mostAppends = 32 << 10

func partName(d digest.Digest) string { return ingestDir + "/" + fileName(d) + partSuffix }
func listName(d digest.Digest) string { return ingestDir + "/" + fileName(d) + listSuffix }

// open makes a new partial, or opens the one that an earlier ingest left and what its
// side list says.
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
	// A list of an earlier partial would say less than what this one will have. A blob
	// that is too small for a second record has no list that matters.
	if in.desc.Size >= in.b.tune.listEvery {
		if err := in.removeList(); err != nil {
			f.Close()
			return err
		}
	}
	return nil
}

// reopen opens the partial of an earlier ingest. ok is false if it is of no use: a
// planted link, a file longer than the blob, which another descriptor lied about, or one
// whose list cannot be read.
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

// loadList reads which ranges of the partial were written.
func (in *ingest) loadList(fi fs.FileInfo) (ok bool, err error) {
	list, done, n, err := in.b.openList(in.desc.Digest, fi.Size(), os.O_RDWR)
	if err != nil {
		if errors.Is(err, errUselessList) {
			in.b.log.Warn("a partial blob is not used", "digest", in.desc.Digest, "error", err)
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

var errUselessList = errors.New("its list cannot be read")

// openList returns which ranges of a partial of that size were written. Without a list,
// or without a record in it, the partial was written without a gap. A list that cannot
// be read is an error that wraps errUselessList: then it is not known what was written.
// The list is nil if there is none, and otherwise the caller's to close; n is the length
// of its good records.
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

// flushList appends what was written to the side list, if there is one. It is not
// synced: after SIGKILL the system still has it, and after a loss of power the caller
// hashes what it says, like everything else that was kept.
func (in *ingest) flushList() error {
	if in.list == nil || len(in.fresh) == 0 {
		return nil
	}
	n, err := in.list.WriteAt(appendRecords(nil, in.fresh), in.listEnd)
	if err != nil {
		return err // the next records are written over those that are half written
	}
	in.listEnd += int64(n)
	in.fresh, in.unlisted = in.fresh[:0], 0
	return nil
}

func appendRecord(b []byte, s spans.Span) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Off))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.End))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
}

func appendRecords(b []byte, all spans.Set) []byte {
	for _, s := range all {
		b = appendRecord(b, s)
	}
	return b
}

// parseRecords returns the ranges of a side list, cut to size. It stops at the first
// record that is not whole; n is the length of those before it.
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

// removeFiles removes the partial and then its list. In the other order a crash would
// leave a partial that seems to be written without a gap.
func (in *ingest) removeFiles() error {
	err := in.b.fs.Remove(partName(in.desc.Digest))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return in.removeList()
}

func (in *ingest) removeList() error {
	err := in.b.fs.Remove(listName(in.desc.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// keptBytes is how much of a blob is kept; see Layout.Kept.
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
