package layout

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/pullkit/pullkit/internal/spans"
)

// The side list of a partial is a sequence of records, each a range that was
// written: offset, end, and a checksum of both, so that a torn or empty record
// is not believed. It is only appended to.
const recordSize = 20

// maxListSize limits what is read of a side list.
const maxListSize = 16 << 20

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

// parseRecords gives the ranges that a side list tells, cut to size. It stops
// at the first record that is not whole; n is the length of those before it.
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
