package layout

import (
	"testing"

	"github.com/pullkit/pullkit/internal/spans"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func span(off, end int64) spans.Span { return spans.Span{Off: off, End: end} }

// FuzzList writes ranges to a side list and reads them again, with a complete partial and
// with one that was cut.
func FuzzList(f *testing.F) {
	f.Add([]byte{0, 5, 5, 10, 20, 30, 3, 25})
	f.Add([]byte{9, 1, 1, 1, 0, 255, 10, 20, 20, 21})
	f.Fuzz(func(t *testing.T, ops []byte) {
		var s spans.Set
		var list []byte
		for ; len(ops) >= 2; ops = ops[2:] {
			x := span(int64(ops[0]), int64(ops[1]))
			s = s.Add(x)
			if x.Off < x.End {
				list = appendRecord(list, x)
			}
		}
		again, n := parseRecords(list, 256)
		require.Equal(t, s, again)
		require.Equal(t, int64(len(list)), n)
		half, _ := parseRecords(list, 128)
		if len(half) > 0 {
			require.LessOrEqual(t, half[len(half)-1].End, int64(128))
		}
	})
}

// FuzzRecords reads side lists that a crash may have left.
func FuzzRecords(f *testing.F) {
	f.Add(appendRecord(appendRecord(nil, span(0, 100)), span(200, 300)))
	f.Add(make([]byte, 3*recordSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, n := parseRecords(data, 1000)
		assert.LessOrEqual(t, n, int64(len(data)))
		if n == 0 {
			assert.Empty(t, s)
		}
		for _, x := range s {
			assert.True(t, 0 <= x.Off && x.Off < x.End && x.End <= 1000, "%v", s)
		}
	})
}

func TestRecordsStopAtATornOne(t *testing.T) {
	list := appendRecord(nil, span(0, 100))
	torn := append(list, appendRecord(nil, span(100, 200))[:recordSize-1]...)
	s, n := parseRecords(torn, 1000)
	assert.Equal(t, spans.Set{span(0, 100)}, s)
	assert.Equal(t, int64(recordSize), n)
	list = append(list, make([]byte, recordSize)...) // zeros, as after a loss of power
	s, _ = parseRecords(append(list, appendRecord(nil, span(500, 600))...), 1000)
	assert.Equal(t, spans.Set{span(0, 100)}, s)
}
