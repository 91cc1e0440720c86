package layout

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// A span is bytes off to end of a blob.
type span struct{ off, end int64 }

// spans are ascending and apart.
type spans []span

// add joins [off, end) to s.
func (s spans) add(off, end int64) spans {
	if off >= end {
		return s
	}
	// Nearly always the bytes follow what the last write, or another stream, left off.
	i, _ := slices.BinarySearchFunc(s, off, func(x span, off int64) int {
		if x.end < off {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s) && s[j].off <= end {
		off, end = min(off, s[j].off), max(end, s[j].end)
		j++
	}
	if j == i {
		return slices.Insert(s, i, span{off, end})
	}
	s[i] = span{off, end}
	return slices.Delete(s, i+1, j)
}

// whole reports whether s is all of size bytes.
func (s spans) whole(size int64) bool {
	return size == 0 || len(s) == 1 && s[0] == span{0, size}
}

func (s spans) total() (n int64) {
	for _, x := range s {
		n += x.end - x.off
	}
	return n
}

// The side list of a partial is a sequence of records, each a range that was
// written: offset, end, and a checksum of both, so that a torn or empty record
// is not believed. It is appended to, until it
// is long and one of joined ranges takes its place.
const recordSize = 20

// maxListSize limits what is read of a side list.
const maxListSize = 16 << 20

func appendRecord(b []byte, s span) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.off))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.end))
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[at:]))
}

func appendRecords(b []byte, all []span) []byte {
	for _, s := range all {
		b = appendRecord(b, s)
	}
	return b
}

// parseRecords gives the ranges that a side list tells, cut to size. It stops
// at the first record that is not whole; n is the length of those before it.
func parseRecords(b []byte, size int64) (s spans, n int64) {
	for len(b) >= recordSize {
		off := int64(binary.LittleEndian.Uint64(b))
		end := int64(binary.LittleEndian.Uint64(b[8:]))
		if binary.LittleEndian.Uint32(b[16:]) != crc32.ChecksumIEEE(b[:16]) || off < 0 || end < off {
			break
		}
		s = s.add(off, min(end, size))
		b, n = b[recordSize:], n+recordSize
	}
	return s, n
}
