package layout

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A session is one process's work on a partial: some writes, in any order, and an
// end that is orderly or not.
type session struct {
	r       *rand.Rand
	data    []byte // no byte of it is 0, so that a hole shows
	written []bool // by any session so far
	fails   bool   // operations fail now and then
	said    string
	trouble int
}

// open opens a layout whose process dies before some operation, or not.
func (s *session) open(t *testing.T, mem *disktest.Disk) (l *Layout, quiet func(bool), err error) {
	steps, silent := -1, false
	if s.r.IntN(2) == 0 {
		steps = s.r.IntN(40)
	}
	l, err = openFS("mem", disktest.Before(mem.Process(), func(op, name string) error {
		switch {
		case silent:
			return nil
		case steps == 0:
			s.trouble++
			return disktest.ErrDead
		case steps > 0:
			steps--
		}
		if s.fails && op != "lock" && s.r.Float64() < 0.08 {
			s.said += fmt.Sprintf(" (%s %s fails)", op, name)
			s.trouble++
			return content.ErrNoSpace
		}
		return nil
	}),

		Config{})
	if err == nil {
		l.tune = tuning{listEvery: 2 << 10, writeBackEvery: 16 << 10, smallBlob: 20 << 10, indexSize: maxIndexSize}
	}
	return l, func(q bool) { silent = q }, err
}

func (s *session) run(t *testing.T, mem *disktest.Disk) {
	l, quiet, err := s.open(t, mem)
	if err != nil {
		return
	}
	defer l.Close() // as the process ends: its locks end with it
	desc := descOf("", s.data)
	before := s.trouble
	quiet(true)
	kept, err := l.Kept(t.Context(), desc)
	require.NoError(t, err, s.said)
	quiet(false)
	in, err := l.Ingest(t.Context(), desc)
	if err != nil {
		return
	}
	total := int64(0)
	quiet(true)
	for off, n := range in.Have() {
		got := make([]byte, n)
		_, err := in.ReadAt(got, off)
		require.NoError(t, err, s.said)
		require.Equal(t, s.data[off:off+n], got, s.said)
		require.NotContains(t, s.written[off:off+n], false, s.said)
		total += n
	}
	quiet(false)
	if s.trouble == before {
		require.Equal(t, total, kept, s.said)
	}
	for range s.r.IntN(12) {
		if err := s.write(in.(*ingest)); err != nil && s.r.IntN(2) == 0 {
			break
		}
	}
	switch s.r.IntN(6) {
	case 0, 1, 2:
		in.Close()
		s.said += " close"
	case 3:
		s.said += " discard"
		if in.Discard() == nil {
			clear(s.written)
		}
	}
}

// write writes some bytes, often where the last write ended.
func (s *session) write(in *ingest) error {
	off := s.r.IntN(len(s.data) + 1)
	if s.r.IntN(3) == 0 {
		off = int(in.beginning().End)
	}
	n := s.r.IntN(len(s.data) - off + 1)
	if s.r.IntN(2) == 0 {
		n = min(n, 700)
	}
	n, err := in.WriteAt(s.data[off:off+n], int64(off))
	s.said += fmt.Sprintf(" [%d,%d)", off, off+n)
	for i := range n {
		s.written[off+i] = true
	}
	return err
}

// What Have and Kept tell was written, whatever was written in whatever order,
// failed, and died in between; and both tell the same.
func TestHaveTellsWhatWasWritten(t *testing.T) {
	for seed := range uint64(someRounds(1500, 150)) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := &session{r: r, fails: seed%2 == 1, data: noZeros(int(seed), []int{0, 1, 100, 5000, 30000}[r.IntN(5)])}
		s.written = make([]bool, len(s.data))
		mem := disktest.New()
		for i := range 6 {
			s.said += fmt.Sprintf(" | seed %d, %d:", seed, i)
			s.run(t, mem)
		}
	}
}

func noZeros(seed, size int) []byte {
	data, _ := blobOf(seed, size)
	for i := range data {
		data[i] |= 1
	}
	return data
}

// The same for writes at the same time: after a death there is no hole in what
// Have tells.
func TestHaveTellsNoHole(t *testing.T) {
	data := noZeros(1, 40_000)
	desc := descOf("", data)
	for seed := range uint64(rounds.Of(100)) {
		mem := disktest.New()
		for i := range uint64(4) {
			left := atomic.Int64{}
			left.Store(1 << 30)
			l, err := openFS("mem", disktest.Before(mem.Process(), func(string, string) error {
				if left.Add(-1) < 0 {
					return disktest.ErrDead
				}
				return nil
			}),

				Config{})
			require.NoError(t, err)
			l.tune.listEvery = 2 << 10
			in, err := l.Ingest(t.Context(), desc)
			require.NoError(t, err)
			for off, n := range in.Have() {
				got := make([]byte, n)
				_, err := in.ReadAt(got, off)
				require.NoError(t, err)
				require.Equal(t, data[off:off+n], got, "seed %d, %d", seed, i)
			}
			left.Store(int64(seed))
			var wg sync.WaitGroup
			for g := range uint64(4) {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, 10*i+g))
					off, err := int(g*10_000), error(nil)
					for err == nil && off < len(data) {
						n := min(r.IntN(1500), len(data)-off)
						_, err = in.WriteAt(data[off:off+n], int64(off))
						off += n
					}
					assert.True(t, err == nil || left.Load() < 0, "%v", err)
				})
			}
			wg.Wait()
			l.Close()
		}
	}
}

// The list's first record cannot be written, a later write succeeds all the same,
// and the process dies: the hole before it does not count.
func TestListThatCannotBeBegun(t *testing.T) {
	data := noZeros(1, 10_000)
	desc := descOf("", data)
	mem, full := disktest.New(), true
	l, err := openFS("mem", disktest.Before(mem.Process(), func(op, name string) error {
		if full && op == "write" && name == listName(desc.Digest) {
			return content.ErrNoSpace
		}
		return nil
	}),

		Config{})
	require.NoError(t, err)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data[:100], 0)
	require.NoError(t, err)
	_, err = in.WriteAt(data[5000:6000], 5000)
	require.ErrorIs(t, err, content.ErrNoSpace)
	full = false
	_, err = in.WriteAt(data[7000:8000], 7000)
	require.NoError(t, err)
	require.NoError(t, l.Close()) // as it died
	l, err = openFS("mem", mem.Process(), Config{})
	require.NoError(t, err)
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for off, n := range in.Have() {
		assert.Equal(t, span(0, 100), span(off, off+n))
	}
}

// The list of a blob that several connections bring piece by piece stays short: each
// append has one record for each connection, however many writes there were.
func TestListStaysShort(t *testing.T) {
	data := noZeros(1, 60_000)
	desc := descOf("", data)
	l, err := openMem(disktest.New().Process())
	require.NoError(t, err)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	written := int64(0)
	for off := 0; off < 19_000; off += 50 { // three streams
		for _, from := range []int{1, 20_000, 40_000} {
			_, err = in.WriteAt(data[from+off:from+off+50], int64(from+off))
			require.NoError(t, err)
			written += 50
		}
	}
	fi, err := l.fs.Lstat(listName(desc.Digest))
	require.NoError(t, err)
	assert.LessOrEqual(t, fi.Size(), (written/l.tune.listEvery+2)*3*recordSize)
	assert.Greater(t, must(l.Kept(t.Context(), desc)), written-l.tune.listEvery, "what a killed process loses")
	require.NoError(t, in.Close())
	kept, err := l.Kept(t.Context(), desc)
	require.NoError(t, err)
	assert.Equal(t, written, kept)
}

// A sweep that dies between the two files leaves no partial without its list.
func TestSweepThatDies(t *testing.T) {
	data := noZeros(1, 10_000)
	desc := descOf("", data)
	mem := disktest.New()
	l, err := openMem(mem.Process())
	require.NoError(t, err)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data[5000:6000], 5000)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	removed := 0
	l.fs = disktest.Before(l.fs, func(op, _ string) error {
		if op == "remove" {
			if removed++; removed > 1 {
				return disktest.ErrDead
			}
		}
		return nil
	})

	l.sweepOlder(-time.Hour)
	require.NoError(t, l.Close())
	l, err = openMem(mem.Process())
	require.NoError(t, err)
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for off, n := range in.Have() {
		assert.Equal(t, span(5000, 6000), span(off, off+n), "only this was written")
	}
}
