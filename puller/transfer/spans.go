package transfer

import (
	"iter"
	"slices"
)

// A span is the bytes [off, end) of a blob.
type span struct{ off, end int64 }

// spans are the parts of a blob that are in the store: ascending and apart.
type spans []span

// keptSpans turns what an Ingest kept into spans. ok is false if that cannot
// be of a blob of this size: then none of it can be trusted.
func keptSpans(have iter.Seq2[int64, int64], size int64) (kept spans, ok bool) {
	for off, n := range have {
		if off < 0 || n < 0 || n > size-off {
			return nil, false
		}
		if n > 0 {
			kept = kept.add(span{off, off + n})
		}
	}
	return kept, true
}

// add puts s among the others and joins those that touch.
func (ss spans) add(s span) spans {
	i, _ := slices.BinarySearchFunc(ss, s.off, func(t span, off int64) int {
		if t.end < off {
			return -1
		}
		return 1
	})
	j := i
	for j < len(ss) && ss[j].off <= s.end {
		s.off, s.end = min(s.off, ss[j].off), max(s.end, ss[j].end)
		j++
	}
	return slices.Replace(ss, i, j, s)
}

// after returns how far the bytes from off on reach without a gap: off if there are none.
func (ss spans) after(off int64) int64 {
	for _, s := range ss {
		if s.off <= off && off < s.end {
			return s.end
		}
	}
	return off
}

// gap returns the first bytes from off on, up to size, that are missing; empty
// (off == end == size) if none are.
func (ss spans) gap(off, size int64) span {
	for _, s := range ss {
		switch {
		case s.end <= off:
		case s.off <= off:
			off = s.end
		default:
			return span{off, min(s.off, size)}
		}
	}
	return span{off, max(off, size)}
}

// total is the number of bytes.
func (ss spans) total() int64 {
	var n int64
	for _, s := range ss {
		n += s.end - s.off
	}
	return n
}
