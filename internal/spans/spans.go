// Package spans has sets of byte ranges. They say which parts of a blob are written and
// which are missing.
package spans

import (
	"iter"
	"slices"
)

// A Span is a range of bytes of a blob: from Off up to, but not including, End.
type Span struct{ Off, End int64 }

// Len returns the number of bytes.
func (s Span) Len() int64 { return s.End - s.Off }

// A Set is a set of bytes. Its spans are in ascending order, none is empty, and
// between two of them at least one byte is missing. The zero Set is empty.
type Set []Span

// FromHave returns the set of the ranges that content.Ingest.Have yields, each as offset
// and length. ok is false if a range does not lie within a blob of this size. Then the
// caller cannot trust the other ranges, either.
func FromHave(have iter.Seq2[int64, int64], size int64) (s Set, ok bool) {
	for off, n := range have {
		if off < 0 || n < 0 || n > size-off {
			return nil, false
		}
		s = s.Add(Span{off, off + n})
	}
	return s, true
}

// Add returns s with the bytes of x added. Like append it may change s, so the caller
// must use only the result. An x that is empty, or ends before it begins, adds nothing.
func (s Set) Add(x Span) Set {
	if x.Off >= x.End {
		return s
	}
	// Usually x begins where a span of s ends.
	i, _ := slices.BinarySearchFunc(s, x.Off, func(at Span, off int64) int {
		if at.End < off {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s) && s[j].Off <= x.End {
		x.Off, x.End = min(x.Off, s[j].Off), max(x.End, s[j].End)
		j++
	}
	if j == i {
		return slices.Insert(s, i, x)
	}
	s[i] = x
	return slices.Delete(s, i+1, j)
}

// After returns the offset of the first missing byte at or after off.
func (s Set) After(off int64) int64 {
	for _, x := range s {
		if x.Off <= off && off < x.End {
			return x.End
		}
	}
	return off
}

// Gap returns the first missing bytes at or after off, up to size. The result is
// empty if no bytes are missing there.
func (s Set) Gap(off, size int64) Span {
	for _, x := range s {
		switch {
		case x.End <= off:
		case x.Off <= off:
			off = x.End
		default:
			return Span{off, max(off, min(x.Off, size))}
		}
	}
	return Span{off, max(off, size)}
}

// Whole reports whether s has all bytes of a blob of this size, and no others.
func (s Set) Whole(size int64) bool {
	if size == 0 {
		return len(s) == 0
	}
	return len(s) == 1 && s[0] == Span{0, size}
}

// Total returns the number of bytes in s.
func (s Set) Total() int64 {
	var n int64
	for _, x := range s {
		n += x.Len()
	}
	return n
}

// Have yields the ranges of s in the form of content.Ingest.Have: each as offset and
// length.
func (s Set) Have() iter.Seq2[int64, int64] {
	return func(yield func(off, n int64) bool) {
		for _, x := range s {
			if !yield(x.Off, x.Len()) {
				return
			}
		}
	}
}
