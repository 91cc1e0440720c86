package spans

import (
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzSet compares a Set with a list of flags, one for each byte.
func FuzzSet(f *testing.F) {
	f.Add([]byte{0, 5, 10, 3, 5, 5})
	f.Add([]byte{1, 1, 3, 1, 2, 1, 250, 20})
	f.Add([]byte{9, 0, 1, 0, 0, 255, 10, 10, 20, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		const size = 300
		var s Set
		var flags [512]bool
		for ; len(data) >= 2; data = data[2:] {
			x := Span{int64(data[0]), int64(data[0]) + int64(data[1])}
			s = s.Add(x)
			for i := x.Off; i < x.End; i++ {
				flags[i] = true
			}
		}
		var total int64
		for i, there := range flags {
			if there {
				total++
			}
			require.Equal(t, int64(runOf(flags[:], i, true)), s.After(int64(i)), "after %d of %v", i, s)
			off := min(runOf(flags[:size], i, true), size)
			want := Span{int64(off), int64(runOf(flags[:size], off, false))}
			if i >= size || want.Len() == 0 {
				require.Zero(t, s.Gap(int64(i), size).Len(), "gap from %d of %v", i, s)
				continue
			}
			require.Equal(t, want, s.Gap(int64(i), size), "gap from %d of %v", i, s)
		}
		require.Equal(t, total, s.Total())
		last := int64(-1)
		for _, x := range s {
			require.Greater(t, x.Off, last, "spans are in order, with a gap between them: %v", s)
			require.Positive(t, x.Len())
			last = x.End
		}
		again, ok := FromHave(s.Have(), 512)
		require.True(t, ok)
		require.Equal(t, s, again)
	})
}

// runOf returns the index after the last of the flags that follow i and are equal to is.
func runOf(flags []bool, i int, is bool) int {
	for i < len(flags) && flags[i] == is {
		i++
	}
	return i
}

func TestAddJoinsRanges(t *testing.T) {
	for _, tt := range []struct {
		in   []Span
		want Set
	}{
		{[]Span{{0, 0}, {9, 3}}, nil},
		{[]Span{{5, 6}, {0, 1}}, Set{{0, 1}, {5, 6}}},
		{[]Span{{0, 1}, {1, 2}}, Set{{0, 2}}},
		{[]Span{{0, 1}, {2, 3}, {4, 5}, {1, 4}}, Set{{0, 5}}},
		{[]Span{{0, 9}, {2, 3}}, Set{{0, 9}}},
	} {
		var got Set
		for _, x := range tt.in {
			got = got.Add(x)
		}
		assert.Equal(t, tt.want, got, "%v", tt.in)
	}
}

func TestWholeIsAllBytesAndNoOthers(t *testing.T) {
	assert.True(t, Set(nil).Whole(0))
	assert.True(t, Set{{0, 5}}.Whole(5))
	for _, s := range []Set{nil, {{0, 4}}, {{1, 5}}, {{0, 6}}, {{0, 2}, {3, 5}}} {
		assert.False(t, s.Whole(5), "%v", s)
	}
	assert.False(t, Set{{0, 1}}.Whole(0))
}

func TestFromHaveRefusesRangesOutsideTheBlob(t *testing.T) {
	have := func(ranges ...[2]int64) iter.Seq2[int64, int64] {
		return func(yield func(int64, int64) bool) {
			for _, r := range ranges {
				if !yield(r[0], r[1]) {
					return
				}
			}
		}
	}
	s, ok := FromHave(have([2]int64{0, 3}, [2]int64{3, 2}, [2]int64{7, 0}, [2]int64{8, 2}), 10)
	assert.True(t, ok)
	assert.Equal(t, Set{{0, 5}, {8, 10}}, s)
	for _, bad := range [][2]int64{{-1, 2}, {0, 11}, {9, 2}, {0, -1}, {1 << 62, 1 << 62}} {
		_, ok := FromHave(have([2]int64{0, 3}, bad), 10)
		assert.False(t, ok, "%v", bad)
	}
}

func TestHaveCanEndEarly(t *testing.T) {
	s := Set{{0, 2}, {4, 7}}
	assert.Equal(t, map[int64]int64{0: 2, 4: 3}, maps.Collect(s.Have()))
	for off := range s.Have() {
		assert.Zero(t, off)
		break
	}
	assert.Equal(t, Set{{0, 2}, {4, 7}}, slices.Clone(s))
}
