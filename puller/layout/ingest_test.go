package layout_test

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/disk/disktest"
	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBadDescriptorsAreRefused(t *testing.T) {
	l := openTest(t, t.TempDir())
	_, good := blobOf(1, 100)
	for name, desc := range map[string]ocispec.Descriptor{
		"no digest":    {Size: 1},
		"path":         {Digest: "sha256:../../../etc/passwd", Size: 1},
		"md5":          {Digest: "md5:d41d8cd98f00b204e9800998ecf8427e"},
		"upper case":   {Digest: "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"},
		"size below 0": {Digest: good.Digest, Size: -1},
	} {
		_, err := l.Ingest(t.Context(), desc)
		assert.Contains(t, []content.Reason{content.ErrBadDigest, content.ErrSizeMismatch}, content.ReasonOf(err), name)
		_, err = l.Has(t.Context(), desc)
		assert.Error(t, err, name)
		_, err = l.Open(t.Context(), desc)
		assert.Error(t, err, name)
		_, err = l.Kept(t.Context(), desc)
		assert.Error(t, err, name)
	}
}

func TestAnIngestHasTheSizeOfItsDescriptor(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 1<<20)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data, 1)
	assert.ErrorIs(t, err, content.ErrSizeMismatch, "beyond the end")
	_, err = in.WriteAt(data[:1], -1)
	assert.ErrorIs(t, err, content.ErrSizeMismatch)
	_, err = in.WriteAt(data[:1<<19], 0)
	require.NoError(t, err)
	_, err = in.WriteAt(data[len(data)-1:], desc.Size-1)
	require.NoError(t, err)
	assert.Error(t, in.Commit(t.Context()), "a hole in it")
	require.NoError(t, in.Close())
	kept, err := l.Kept(t.Context(), desc)
	require.NoError(t, err)
	assert.Equal(t, int64(1<<19+1), kept)

	// Another descriptor gives a smaller size for the blob, and its ingest leaves a
	// partial. An ingest with the right size succeeds.
	lie := desc
	lie.Size = 2 << 20
	in, err = l.Ingest(t.Context(), lie)
	require.NoError(t, err)
	_, err = in.WriteAt(make([]byte, 1<<20), 1<<20)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	p := &testPuller{l: l}
	require.NoError(t, p.blob(t.Context(), desc, data))
	ok, err := l.Has(t.Context(), desc)
	require.NoError(t, err)
	assert.True(t, ok)
	requireTidy(t, l)
}

// A partial that is written from its start without a gap does not have a side list. Its
// length shows what was written, even after the death of the process.
func TestThereIsNoSideListWithoutAGap(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir)
	data, desc := blobOf(1, 1<<20)
	list := filepath.Join(l.Dir(), filepath.FromSlash(listName(desc.Digest)))
	ingestOf := func(want ...spans.Span) content.Ingest {
		in, err := l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		var have []spans.Span
		total := int64(0)
		for off, n := range in.Have() {
			have = append(have, span(off, off+n))
			total += n
		}
		assert.Equal(t, want, have)
		kept, err := l.Kept(t.Context(), desc)
		require.NoError(t, err)
		assert.Equal(t, total, kept)
		return in
	}
	write := func(in content.Ingest, s spans.Span) {
		_, err := in.WriteAt(data[s.Off:s.End], s.Off)
		require.NoError(t, err)
	}
	in := ingestOf()
	write(in, span(0, 200_000))
	write(in, span(200_000, 500_000))
	assert.NoFileExists(t, list)
	layout.Abandon(in)
	require.NoError(t, l.Close())
	l = openTest(t, dir)
	in = ingestOf(span(0, 500_000))
	write(in, span(500_000, 600_000))
	assert.NoFileExists(t, list)
	write(in, span(900_000, 1_000_000))
	assert.FileExists(t, list)
	require.NoError(t, in.Close())
	in = ingestOf(span(0, 600_000), span(900_000, 1_000_000))
	require.NoError(t, in.Close())
	// A process dies after it made the list and before it wrote the first record. It had
	// not written a gap yet.
	require.NoError(t, os.Truncate(list, recordSize-1))
	in = ingestOf(span(0, 1_000_000))
	assert.NoFileExists(t, list)
	write(in, span(1_000_000, desc.Size))
	require.NoError(t, in.Commit(t.Context()))
	requireTidy(t, l)
}

// A side list has ranges that the partial lost, as after a loss of power.
func TestASideListMayHaveRangesThatWereLost(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir)
	data, desc := blobOf(1, 1<<20)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for _, off := range []int64{600_000, 0} { // a list, for the hole that there was
		_, err = in.WriteAt(data[off:off+(1<<20-600_000)], off)
		require.NoError(t, err)
	}
	_, err = in.WriteAt(data[1<<20-600_000:600_000], 1<<20-600_000)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	part := filepath.Join(l.Dir(), filepath.FromSlash(partName(desc.Digest)))
	require.NoError(t, os.Truncate(part, 300_000))
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for off, n := range in.Have() {
		assert.Zero(t, off)
		assert.Equal(t, int64(300_000), n)
	}
	assert.Error(t, in.Commit(t.Context()), "a listed range that is lost does not count as written")
	require.NoError(t, in.Close())
	require.NoError(t, os.Remove(part))
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for range in.Have() {
		t.Error("a list without its partial tells nothing")
	}
	// That also holds after the new partial has grown and its process has died.
	_, err = in.WriteAt(data[1<<20-10:], 1<<20-10)
	require.NoError(t, err)
	layout.Abandon(in)
	require.NoError(t, l.Close())
	l = openTest(t, dir)
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for off, n := range in.Have() {
		t.Errorf("%d bytes at %d are not the new partial's", n, off)
	}
	require.NoError(t, in.Close())
}

// Another program removes the state directory while a blob is written. A partial that is
// started in the new directory does not count as the first one.
func TestAPartialInANewStateDirectoryIsAnotherOne(t *testing.T) {
	l := openTest(t, t.TempDir())
	other := openTest(t, l.Dir())
	data, desc := blobOf(1, 1000)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(l.Dir(), stateDir)))
	half, err := other.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = half.WriteAt(make([]byte, 1000), 0)
	require.NoError(t, err)
	err = in.Commit(t.Context())
	assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%v", err)
	requireSound(t, must(disk.Open(l.Dir())), "after a commit without its partial")
	require.NoError(t, half.Discard())
	store(t, l, desc, data)
}

func TestIngestRefusesCallsAfterItsEnd(t *testing.T) {
	l := openTest(t, t.TempDir())
	data, desc := blobOf(1, 10)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	require.NoError(t, in.Close())
	_, err = in.WriteAt(data, 0)
	assert.Error(t, err)
	assert.Error(t, in.Commit(t.Context()))
	assert.Error(t, in.Discard())
	requireTidy(t, l)
}

// Many goroutines and layouts need the same few blobs. Each blob is written once.
func TestEachBlobIsWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	var mu sync.Mutex
	written := make(map[int]int)
	for range 4 {
		l := openTest(t, dir)
		for range 4 {
			wg.Go(func() {
				for seed := range 10 {
					data, desc := blobOf(seed, 1000*seed)
					in, err := l.Ingest(t.Context(), desc)
					if errors.Is(err, fs.ErrExist) {
						continue
					}
					if !assert.NoError(t, err) {
						return
					}
					in.WriteAt(data, 0)
					mu.Lock()
					written[seed]++
					mu.Unlock()
					assert.NoError(t, in.Commit(t.Context()))
				}
			})
		}
	}
	wg.Wait()
	for seed := range 10 {
		assert.Equal(t, 1, written[seed])
	}
}

// A session is the work of one process on a partial: some writes in any order, and an
// orderly end or a death.
type session struct {
	r       *rand.Rand
	data    []byte // no byte of it is 0, so that a hole shows
	written []bool // by any session so far
	fails   bool   // operations fail now and then
	said    string
	trouble int
}

// open opens a layout whose process may die before some operation.
func (s *session) open(t *testing.T, mem *disktest.Disk) (l *layout.Layout, quiet func(bool), err error) {
	steps, silent := -1, false
	if s.r.IntN(2) == 0 {
		steps = s.r.IntN(40)
	}
	l, err = layout.OpenDisk("mem", disktest.Before(mem.Process(), func(op, name string) error {
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

		layout.Config{})
	if err == nil {
		l.SetLimits(layout.Limits{ListEvery: 2 << 10, WriteBackEvery: 16 << 10, SmallBlob: 20 << 10})
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
		if err := s.write(in); err != nil && s.r.IntN(2) == 0 {
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
func (s *session) write(in content.Ingest) error {
	off := s.r.IntN(len(s.data) + 1)
	if s.r.IntN(3) == 0 {
		off = max(0, slices.Index(s.written, false))
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

// Have and Kept agree, and yield only ranges that were written. This holds for writes in
// any order, failed operations and deaths of the process.
func TestHaveYieldsWhatWasWritten(t *testing.T) {
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

// This is TestHaveYieldsWhatWasWritten for concurrent writes: after a death, no range of
// Have has a gap.
func TestHaveYieldsNoGap(t *testing.T) {
	data := noZeros(1, 40_000)
	desc := descOf("", data)
	for seed := range uint64(rounds.Of(100)) {
		mem := disktest.New()
		for i := range uint64(4) {
			left := atomic.Int64{}
			left.Store(1 << 30)
			l, err := layout.OpenDisk("mem", disktest.Before(mem.Process(), func(string, string) error {
				if left.Add(-1) < 0 {
					return disktest.ErrDead
				}
				return nil
			}),

				layout.Config{})
			require.NoError(t, err)
			l.SetLimits(layout.Limits{ListEvery: 2 << 10})
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

// The first record of the side list cannot be written, a later write succeeds, and the
// process dies. The gap does not count as written.
func TestAGapWithoutARecordDoesNotCountAsWritten(t *testing.T) {
	data := noZeros(1, 10_000)
	desc := descOf("", data)
	mem, full := disktest.New(), true
	l, err := layout.OpenDisk("mem", disktest.Before(mem.Process(), func(op, name string) error {
		if full && op == "write" && name == listName(desc.Digest) {
			return content.ErrNoSpace
		}
		return nil
	}),

		layout.Config{})
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
	l, err = layout.OpenDisk("mem", mem.Process(), layout.Config{})
	require.NoError(t, err)
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for off, n := range in.Have() {
		assert.Equal(t, span(0, 100), span(off, off+n))
	}
}

// If several connections fetch a blob in small pieces, its side list stays short. Each
// append has one record for each connection, for any number of writes.
func TestTheSideListStaysShort(t *testing.T) {
	data := noZeros(1, 60_000)
	desc := descOf("", data)
	mem := disktest.New()
	l, err := openMem(mem.Process())
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
	fi, err := mem.Process().Lstat(listName(desc.Digest))
	require.NoError(t, err)
	assert.LessOrEqual(t, fi.Size(), (written/small.ListEvery+2)*3*recordSize)
	assert.Greater(t, must(l.Kept(t.Context(), desc)), written-small.ListEvery, "a killed process loses at most that much")
	require.NoError(t, in.Close())
	kept, err := l.Kept(t.Context(), desc)
	require.NoError(t, err)
	assert.Equal(t, written, kept)
}

// If a process dies in a sweep between the removals of both files, it leaves no partial
// without its list.
func TestASweepThatDiesLeavesNoPartialWithoutItsList(t *testing.T) {
	data := noZeros(1, 10_000)
	desc := descOf("", data)
	mem := disktest.New()
	d := newSwitchDisk(mem.Process())
	l, err := layout.OpenDisk("mem", d, layout.Config{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	require.NoError(t, err)
	in, err := l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	_, err = in.WriteAt(data[5000:6000], 5000)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	removed := 0
	d.set(func(op, name string) error {
		if op == "remove" && filepath.Dir(name) == ingestDir {
			if removed++; removed > 1 {
				return disktest.ErrDead
			}
		}
		return nil
	})

	_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	require.Equal(t, 2, removed, "of the partial, which succeeded, and of its list")
	require.NoError(t, l.Close())
	l, err = openMem(mem.Process())
	require.NoError(t, err)
	in, err = l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	for off, n := range in.Have() {
		assert.Equal(t, span(5000, 6000), span(off, off+n), "only this range was written")
	}
}

func span(off, end int64) spans.Span { return spans.Span{Off: off, End: end} }

// Several processes make the same layout, and its directory of partials, at the same time.
// One of the directories stays, and nothing else is left.
func TestIngestDirectoryIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			l, err := layout.Open(dir, layout.Config{})
			if !assert.NoError(t, err) {
				return
			}
			defer l.Close()
			_, desc := blobOf(i, 100)
			in, err := l.Ingest(t.Context(), desc)
			if assert.NoError(t, err) {
				assert.NoError(t, in.Close())
			}
		})
	}
	wg.Wait()
	requireTidy(t, openTest(t, dir))
}

// A reserveFS records which room is reserved, and answers with err.
type reserveFS struct {
	disk.FS
	asked []spans.Span
	err   error
}

type reserveFile struct {
	disk.File
	fs *reserveFS
}

func (r *reserveFS) OpenFile(name string, flag int) (disk.File, error) {
	f, err := r.FS.OpenFile(name, flag)
	if err != nil {
		return nil, err
	}
	return reserveFile{f, r}, nil
}

func (f reserveFile) Reserve(off, n int64) error {
	f.fs.asked = append(f.fs.asked, span(off, off+n))
	return f.fs.err
}

// A large blob that is written without a gap has room reserved ahead of its writes, in few
// requests. The room does not go beyond the blob's size, and counts as free until it is
// written. A system that reserves nothing changes nothing for callers.
func TestReservedRoomCountsAsFreeAndEndsWithTheBlob(t *testing.T) {
	const mib, size = 1 << 20, 20 << 20
	fsys := &reserveFS{FS: disktest.New().Process()}
	l, err := openMem(fsys)
	require.NoError(t, err)
	defer l.Close()
	free := func() int64 {
		n, err := l.Free(t.Context())
		require.NoError(t, err)
		return n
	}
	before := free()
	for i, answer := range []error{nil, errors.ErrUnsupported} {
		fsys.asked, fsys.err = nil, answer
		data, desc := blobOf(i, size)
		in, err := l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		write := func(off, end int64) {
			_, err := in.WriteAt(data[off:end], off)
			require.NoError(t, err)
			ahead := int64(0) // a disk in memory has as much room after a reservation as before
			if answer == nil {
				ahead = max(0, slices.MaxFunc(fsys.asked, func(a, b spans.Span) int { return cmp.Compare(a.End, b.End) }).End-end)
			}
			require.Equal(t, before+ahead, free())
		}
		for off := int64(0); off < 9*mib; off += mib / 2 {
			write(off, off+mib/2)
		}
		require.NoError(t, in.Close())
		assert.Equal(t, before, free(), "an ingest that ended holds no room")

		in, err = l.Ingest(t.Context(), desc)
		require.NoError(t, err)
		write(9*mib, 10*mib)
		asked := len(fsys.asked)
		for _, s := range [][2]int64{{18 * mib, 20 * mib}, {10 * mib, 18 * mib}} { // the first leaves a gap
			_, err := in.WriteAt(data[s[0]:s[1]], s[0])
			require.NoError(t, err)
		}
		assert.Len(t, fsys.asked, asked, "nothing is reserved for a blob with gaps")
		require.NoError(t, in.Commit(t.Context()))
		assert.Equal(t, before, free())
		assert.Less(t, asked, 8, "for 19 writes")
		for _, s := range fsys.asked {
			assert.True(t, 0 <= s.Off && s.Off < s.End && s.End <= size, "%v", s)
		}
	}
	fsys.asked = nil
	data, desc := blobOf(3, mib)
	store(t, l, desc, data)
	assert.Empty(t, fsys.asked, "for a small blob")
	assert.Equal(t, before, free())
}
