package fetch

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"io"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An appendOnly is an ingest of a MemStore that takes bytes only in order and does not
// verify them. Its functions, if they are set, replace its methods.
type appendOnly struct {
	content.Ingest
	at       int64
	readAt   func() error
	offset   func(at int64) int64
	writeAt  func(p []byte) (int, error)
	commit   func(context.Context) error
	verifies bool
}

func newAppendOnly(in content.Ingest) *appendOnly {
	a := &appendOnly{Ingest: in}
	for off, n := range in.Have() {
		a.at = off + n
	}
	return a
}

func (a *appendOnly) Offset() int64 {
	if a.offset != nil {
		return a.offset(a.at)
	}
	return a.at
}

func (a *appendOnly) Verifies() bool { return a.verifies }

func (a *appendOnly) Have() iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		if n := a.Offset(); n > 0 {
			yield(0, n)
		}
	}
}

func (a *appendOnly) WriteAt(p []byte, off int64) (int, error) {
	if off != a.at {
		return 0, errors.New("out of order")
	}
	if a.writeAt != nil {
		return a.writeAt(p)
	}
	n, err := a.Ingest.WriteAt(p, off)
	a.at += int64(n)
	return n, err
}

func (a *appendOnly) ReadAt(p []byte, off int64) (int, error) {
	if a.readAt != nil {
		return 0, a.readAt()
	}
	return a.Ingest.ReadAt(p, off)
}

func (a *appendOnly) Commit(ctx context.Context) error {
	if a.commit != nil {
		return a.commit(ctx)
	}
	return a.Ingest.Commit(ctx)
}

// inOrder makes the store of j take bytes only in order. change, if it is not nil, changes
// each ingest.
func (j *job) inOrder(change func(*appendOnly)) {
	ingest := j.blob.Ingest
	j.blob.Ingest = func(ctx context.Context) (content.Ingest, error) {
		in, err := ingest(ctx)
		if err != nil {
			return nil, err
		}
		a := newAppendOnly(in)
		if change != nil {
			change(a)
		}
		return a, nil
	}
}

// stored reports whether the store has j's blob, and checks its bytes.
func (j *job) stored(t *testing.T) bool {
	t.Helper()
	has, err := j.store.Has(t.Context(), j.blob.Desc)
	require.NoError(t, err)
	if has {
		f, err := j.store.Open(t.Context(), j.blob.Desc)
		require.NoError(t, err)
		got, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		assert.True(t, bytes.Equal(j.data, got), "the bytes of the stored blob")
	}
	return has
}

// left returns how many bytes of j's blob the store keeps.
func (j *job) left(t *testing.T) (kept int64) {
	t.Helper()
	in, err := j.store.Ingest(t.Context(), j.blob.Desc)
	require.NoError(t, err)
	for _, n := range in.Have() {
		kept += n
	}
	require.NoError(t, in.Close())
	return kept
}

var orderedSizes = []int{300 << 10, largeSize + 7}

// noHashes makes a Fetcher fail the test if it hashes.
func noHashes(t *testing.T, f *Fetcher) {
	f.config.NewHash = func(digest.Digest) (hash.Hash, error) {
		t.Error("the bytes are hashed although the store verifies them")
		return nil, errors.New("no hash")
	}
}

// One request fetches the missing bytes, from the Offset of the ingest on. If the store verifies
// the blob, no byte is hashed or read back.
func TestAnOrderedIngestGetsTheMissingBytesInOneRequest(t *testing.T) {
	for _, size := range orderedSizes {
		for _, kept := range []int{0, 1, size / 2, size - 1, size} {
			for _, verifies := range []bool{false, true} {
				f, j := newFetcher(), newJob(size)
				if kept > 0 {
					j.keep(t, j.data[:kept], 0)
				}
				if verifies {
					j.store.InOrder = true
					noHashes(t, f)
				} else {
					j.inOrder(func(a *appendOnly) {
						if kept == 0 {
							a.readAt = func() error { return errors.New("nothing needs to be read back") }
						}
					})
				}
				present, err := f.Fetch(t.Context(), j.blob)
				require.NoError(t, err, "%d of %d bytes, verifies %t", kept, size, verifies)
				assert.False(t, present)
				if kept < size {
					assert.Equal(t, [][2]int64{{int64(kept), -1}}, j.asked)
				} else {
					assert.Empty(t, j.asked)
				}
				assert.Equal(t, int64(kept), j.blob.Progress.Resumed.Load())
				assert.Equal(t, int64(size-kept), j.blob.Progress.Got.Load())
				assert.True(t, j.stored(t))
				assert.NoError(t, f.Idle())
			}
		}
	}
}

// A store takes bytes in any order and verifies them. Several connections fetch the blob, and it
// is not hashed.
func TestABlobInPartsIsNotHashedIfTheStoreVerifiesIt(t *testing.T) {
	for _, size := range orderedSizes {
		f, j := newFetcher(), newJob(size)
		noHashes(t, f)
		j.keep(t, j.data[1000:2000], 1000)
		j.keep(t, j.data[size-10:], int64(size-10))
		ingest := j.blob.Ingest
		j.blob.Ingest = func(ctx context.Context) (content.Ingest, error) {
			in, err := ingest(ctx)
			return verifying{in, t}, err
		}
		_, err := f.Fetch(t.Context(), j.blob)
		require.NoError(t, err)
		assert.Equal(t, [][2]int64{{0, 1000}, {2000, int64(size - 10 - 2000)}}, j.asked)
		assert.True(t, j.stored(t))
		assert.NoError(t, f.Idle())
	}
}

type verifying struct {
	content.Ingest
	t *testing.T
}

func (v verifying) Verifies() bool { return true }

func (v verifying) ReadAt([]byte, int64) (int, error) {
	v.t.Error("the bytes are read back although the store verifies them")
	return 0, errors.New("not read")
}

// A server that ignores ranges sends bytes that the ingest already has. The fetch starts the blob
// again.
func TestAnOrderedIngestStartsAgainIfTheServerIgnoresRanges(t *testing.T) {
	for _, size := range orderedSizes {
		for _, verifies := range []bool{false, true} {
			f, j := newFetcher(), newJob(size)
			j.keep(t, j.data[:size/2], 0)
			j.store.InOrder = verifies
			if !verifies {
				j.inOrder(nil)
			}
			open := j.blob.Open
			j.blob.Open = func(ctx context.Context, off, _ int64) (content.Body, error) {
				body, err := open(ctx, 0, -1)
				body.Start = 0
				j.asked[len(j.asked)-1][0] = off
				return body, err
			}
			_, err := f.Fetch(t.Context(), j.blob)
			require.NoError(t, err)
			assert.Equal(t, [][2]int64{{int64(size / 2), -1}, {0, -1}}, j.asked)
			assert.EqualValues(t, 1, j.blob.Progress.Restarts.Load())
			assert.True(t, j.stored(t))
			assert.NoError(t, f.Idle())
		}
	}
}

// The bytes that an earlier fetch left are wrong. The blob is fetched again from its first byte.
func TestWrongBytesOfAnOrderedIngestAreFetchedAgain(t *testing.T) {
	for _, size := range orderedSizes {
		for _, kept := range []int{1, size / 2, size} {
			for _, verifies := range []bool{false, true} {
				f, j := newFetcher(), newJob(size)
				wrong := bytes.Clone(j.data[:kept])
				wrong[kept/2] ^= 1
				j.keep(t, wrong, 0)
				j.store.InOrder = verifies
				if !verifies {
					j.inOrder(nil)
				}
				_, err := f.Fetch(t.Context(), j.blob)
				require.NoError(t, err, "%d of %d bytes, verifies %t", kept, size, verifies)
				assert.Equal(t, [2]int64{0, -1}, j.asked[len(j.asked)-1])
				assert.True(t, j.stored(t))
				assert.NoError(t, f.Idle())
			}
		}
	}
}

// A document whose bytes are in its descriptor does not need a request. The bytes that an earlier
// fetch left are used only if the store verifies them.
func TestADocumentIsWrittenToAnOrderedIngest(t *testing.T) {
	for _, verifies := range []bool{false, true} {
		for name, kept := range map[string][]byte{"nothing": nil, "wrong bytes": make([]byte, 3000), "all": newJob(5000).data} {
			f, j := newFetcher(), newJob(5000)
			j.keep(t, kept, 0)
			j.store.InOrder = verifies
			if !verifies {
				j.inOrder(nil)
			}
			j.blob.Desc.Data = j.data
			_, err := f.Fetch(t.Context(), j.blob)
			require.NoError(t, err, name)
			assert.Empty(t, j.asked, name)
			assert.True(t, j.stored(t), name)
		}
	}
}

// A store reports a wrong Offset. The fetch fails, or fetches bytes again. The store never has a
// wrong blob.
func TestAStoreWithAWrongOffsetDoesNotGetAWrongBlob(t *testing.T) {
	for _, size := range orderedSizes {
		for name, tt := range map[string]struct {
			offset func(at int64) int64
			once   bool // only the first ingest lies
			wrong  string
		}{
			"negative":                    {func(int64) int64 { return -1 }, false, "is still there"},
			"beyond the blob":             {func(int64) int64 { return int64(size) + 1 }, false, "is still there"},
			"far beyond the blob":         {func(int64) int64 { return 1<<63 - 1 }, false, "is still there"},
			"negative, once":              {func(int64) int64 { return -1 }, true, ""},
			"beyond the blob, once":       {func(int64) int64 { return int64(size) + 1 }, true, ""},
			"more than it has":            {func(at int64) int64 { return at + 10 }, false, ""},
			"less than it has":            {func(at int64) int64 { return max(0, at-10) }, false, "out of order"},
			"all, although it has a part": {func(int64) int64 { return int64(size) }, false, ""},
		} {
			for _, verifies := range []bool{false, true} {
				f, j := newFetcher(), newJob(size)
				j.keep(t, j.data[:size/2], 0)
				lies := 0
				j.inOrder(func(a *appendOnly) {
					a.verifies = verifies
					if lies++; !tt.once || lies == 1 {
						a.offset = tt.offset
					}
				})
				_, err := f.Fetch(t.Context(), j.blob)
				switch {
				case tt.once:
					assert.NoError(t, err, name)
					assert.Equal(t, [][2]int64{{0, -1}}, j.asked, name)
				default:
					require.Error(t, err, "%s, verifies %t", name, verifies)
					assert.ErrorContains(t, err, tt.wrong, name)
					assert.Equal(t, content.ErrStore, content.ReasonOf(err), "%s: %v", name, err)
				}
				assert.Equal(t, tt.once, j.stored(t), name)
				assert.Less(t, len(j.asked), 4, name)
				assert.NoError(t, f.Idle(), name)
			}
		}
	}
}

// A store that reports that it verifies must have the blob after Commit. If Commit refuses right
// bytes, the blob is not stored, and the fetch fails.
func TestAStoreThatVerifiesWronglyFailsTheFetch(t *testing.T) {
	mismatch := &content.Error{Reason: content.ErrDigestMismatch, Err: errors.New("says the store")}
	for _, size := range orderedSizes {
		for name, tt := range map[string]struct {
			commit func(context.Context) error
			reason content.Reason
			asked  int
		}{
			"commits nothing":        {func(context.Context) error { return nil }, content.ErrStore, 1},
			"refuses right bytes":    {func(context.Context) error { return mismatch }, content.ErrDigestMismatch, 1},
			"fails in a way unknown": {func(context.Context) error { return errors.New("no idea") }, content.ErrStore, 1},
		} {
			f, j := newFetcher(), newJob(size)
			j.inOrder(func(a *appendOnly) {
				a.verifies = true
				a.commit = tt.commit
			})
			_, err := f.Fetch(t.Context(), j.blob)
			assert.Equal(t, tt.reason, content.ReasonOf(err), "%s: %v", name, err)
			assert.Len(t, j.asked, tt.asked, name)
			assert.False(t, j.stored(t), name)
			assert.NoError(t, f.Idle(), name)
		}
		f, j := newFetcher(), newJob(size)
		j.inOrder(func(a *appendOnly) { a.verifies = true })
		j.blob.Has = func(context.Context) (bool, error) { return false, errors.New("no answer") }
		_, err := f.Fetch(t.Context(), j.blob)
		assert.Equal(t, content.ErrStore, content.ReasonOf(err))
		assert.ErrorContains(t, err, "no answer")
	}
}

// The registry sends wrong bytes. If the store finds this, the Source gets the same report as
// from the transfer itself.
func TestTheSourceLearnsOfWrongBytesFromAStoreThatVerifies(t *testing.T) {
	for _, size := range orderedSizes {
		f, j := newFetcher(), newJob(size)
		j.store.InOrder = true
		j.served = bytes.Clone(j.data)
		j.served[size/2] ^= 1
		open, rejected := j.blob.Open, 0
		j.blob.Open = func(ctx context.Context, off, n int64) (content.Body, error) {
			body, err := open(ctx, off, n)
			body.Reject = func() bool {
				rejected++
				j.served = j.data // another mirror
				return rejected == 1
			}
			return body, err
		}
		_, err := f.Fetch(t.Context(), j.blob)
		require.NoError(t, err)
		assert.Equal(t, 1, rejected)
		assert.Equal(t, [][2]int64{{0, -1}, {0, -1}}, j.asked)
		assert.True(t, j.stored(t))
		assert.NoError(t, f.Idle())
	}
}

// A short write without an error breaks the rules of io.WriterAt. The fetch fails, and the next
// fetch goes on with the bytes that the store has.
func TestAShortWriteIsAnError(t *testing.T) {
	for _, size := range orderedSizes {
		f, j := newFetcher(), newJob(size)
		var short atomic.Bool
		short.Store(true)
		j.inOrder(func(a *appendOnly) {
			a.verifies = true
			a.writeAt = func(p []byte) (int, error) {
				if a.at > 0 && short.Load() {
					p = p[:len(p)-1]
				}
				n, err := a.Ingest.WriteAt(p, a.at)
				a.at += int64(n)
				return n, err
			}
		})
		_, err := f.Fetch(t.Context(), j.blob)
		require.ErrorIs(t, err, io.ErrShortWrite)
		assert.Equal(t, content.ErrStore, content.ReasonOf(err))
		assert.False(t, j.stored(t))
		left := j.left(t)
		assert.Positive(t, left)
		short.Store(false)
		_, err = f.Fetch(t.Context(), j.blob)
		require.NoError(t, err)
		assert.Equal(t, [2]int64{left, -1}, j.asked[len(j.asked)-1])
		assert.True(t, j.stored(t))
		assert.NoError(t, f.Idle())
	}
}

// The context ends in the middle of the blob. The store keeps the bytes that were written, and
// the next fetch goes on from there.
func TestAFetchWhoseContextEndsGoesOnFromTheOffset(t *testing.T) {
	for _, size := range orderedSizes {
		for _, verifies := range []bool{false, true} {
			f, j := newFetcher(), newJob(size)
			ctx, cancel := context.WithCancel(t.Context())
			j.inOrder(func(a *appendOnly) {
				a.verifies = verifies
				a.writeAt = func(p []byte) (int, error) {
					n, err := a.Ingest.WriteAt(p, a.at)
					if a.at += int64(n); a.at >= int64(size/2) {
						cancel()
					}
					return n, err
				}
			})
			_, err := f.Fetch(ctx, j.blob)
			require.ErrorIs(t, err, context.Canceled)
			left := j.left(t)
			assert.Positive(t, left)
			_, err = f.Fetch(t.Context(), j.blob)
			require.NoError(t, err)
			if left < int64(size) {
				assert.Equal(t, [2]int64{left, -1}, j.asked[len(j.asked)-1])
			}
			assert.True(t, j.stored(t))
			assert.NoError(t, f.Idle())
		}
	}
}
