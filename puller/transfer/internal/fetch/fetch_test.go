package fetch

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// emptyQueue is a Queue in which no blob waits.
type emptyQueue struct{}

func (emptyQueue) Waiting() bool { return false }
func (emptyQueue) Next() bool    { return false }

func newFetcher() *Fetcher {
	return New(Config{
		Memory: 1 << 20, MaxConns: 8, MaxConnsPerBlob: 8, Queue: emptyQueue{}, Log: slog.New(slog.DiscardHandler),
		NewHash: func(d digest.Digest) (hash.Hash, error) { return verify.New(d) },
	})
}

// A job is a blob that is fetched from memory into a MemStore.
type job struct {
	data    []byte
	served  []byte // what Open gives
	asked   [][2]int64
	fetched atomic.Int64
	store   *pullertest.MemStore
	blob    Blob
}

func newJob(size int) *job {
	j := &job{data: make([]byte, size), store: &pullertest.MemStore{}}
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(j.data)
	j.served = j.data
	desc := ocispec.Descriptor{Digest: digest.FromBytes(j.data), Size: int64(size)}
	j.blob = Blob{
		Desc: desc,
		Open: func(_ context.Context, off, n int64) (content.Body, error) {
			j.asked = append(j.asked, [2]int64{off, n})
			part := j.served[off:]
			if n >= 0 {
				part = part[:n]
			}
			return content.Body{ReadCloser: io.NopCloser(bytes.NewReader(part)), Start: off}, nil
		},
		Ingest:   func(ctx context.Context) (content.Ingest, error) { return j.store.Ingest(ctx, desc) },
		Has:      func(ctx context.Context) (bool, error) { return j.store.Has(ctx, desc) },
		Fetched:  func() { j.fetched.Add(1) },
		Progress: &Progress{},
	}
	return j
}

// keep leaves bytes in the store as an earlier fetch would have.
func (j *job) keep(t *testing.T, p []byte, off int64) {
	in, err := j.blob.Ingest(t.Context())
	require.NoError(t, err)
	_, err = in.WriteAt(p, off)
	require.NoError(t, err)
	require.NoError(t, in.Close())
}

var sizes = []int{1000, 300 << 10, largeSize, 5 << 20}

func TestFetchStoresABlobOnce(t *testing.T) {
	for _, size := range sizes {
		f, j := newFetcher(), newJob(size)
		j.keep(t, j.data[100:200], 100)
		present, err := f.Fetch(t.Context(), j.blob)
		require.NoError(t, err, "%d bytes", size)
		assert.False(t, present)
		assert.Equal(t, [][2]int64{{0, 100}, {200, -1}}, j.asked, "%d bytes", size)
		assert.EqualValues(t, 1, j.fetched.Load())
		assert.EqualValues(t, 100, j.blob.Progress.Resumed.Load())
		assert.EqualValues(t, size-100, j.blob.Progress.Got.Load())
		assert.NoError(t, f.Idle())

		present, err = f.Fetch(t.Context(), j.blob)
		require.NoError(t, err)
		assert.True(t, present)
		assert.Len(t, j.asked, 2, "nothing is asked for again")
	}
}

// Wrong bytes that an earlier fetch left are thrown away, and the blob is fetched once
// more.
func TestFetchRestartsIfKeptBytesAreWrong(t *testing.T) {
	for _, size := range sizes {
		f, j := newFetcher(), newJob(size)
		j.keep(t, []byte("wrong"), 100)
		_, err := f.Fetch(t.Context(), j.blob)
		require.NoError(t, err, "%d bytes", size)
		assert.Equal(t, [][2]int64{{0, 100}, {105, -1}, {0, -1}}, j.asked, "%d bytes", size)
		assert.EqualValues(t, 1, j.blob.Progress.Restarts.Load())
		assert.Zero(t, j.blob.Progress.Resumed.Load())
		assert.NoError(t, f.Idle())
	}
}

func TestFetchFailsForOtherBytes(t *testing.T) {
	for _, size := range sizes {
		for kind, served := range map[content.Reason]func([]byte) []byte{
			content.ErrDigestMismatch: func(p []byte) []byte { p = bytes.Clone(p); p[0] ^= 1; return p },
			content.ErrSizeMismatch:   func(p []byte) []byte { return append(bytes.Clone(p), 'x') },
			content.ErrNetwork:        func(p []byte) []byte { return p[:len(p)-1] },
		} {
			f, j := newFetcher(), newJob(size)
			j.served = served(j.data)
			_, err := f.Fetch(t.Context(), j.blob)
			assert.ErrorIs(t, err, kind, "%d bytes", size)
			assert.Len(t, j.asked, 1, "%d bytes: %s", size, kind)
			assert.Zero(t, j.fetched.Load())
			assert.NoError(t, f.Idle())
		}
	}
}

// A panic of a callback in any goroutine becomes a panic of the caller of Fetch.
func TestAPanicOfACallbackReachesTheCallerOfFetch(t *testing.T) {
	boom := errors.New("boom")
	for _, size := range sizes {
		f, j := newFetcher(), newJob(size)
		open := j.blob.Open
		j.blob.Open = func(ctx context.Context, off, n int64) (content.Body, error) {
			body, err := open(ctx, off, n)
			body.ReadCloser = io.NopCloser(panickyReader{boom})
			return body, err
		}
		func() {
			defer func() {
				err, _ := recover().(error)
				assert.ErrorIs(t, err, boom, "%d bytes", size)
			}()
			_, _ = f.Fetch(t.Context(), j.blob)
			assert.Fail(t, "Fetch returned")
		}()
		assert.NoError(t, f.Idle())
		j.blob.Open = open
		_, err := f.Fetch(t.Context(), j.blob)
		assert.NoError(t, err, "afterwards")
	}
}

type panickyReader struct{ err error }

func (r panickyReader) Read([]byte) (int, error) { panic(r.err) }

// A body that breaks the rules of io.Reader is an error. It does not become a panic, a write
// outside its part, or a fetch without an end.
func TestABodyThatBreaksTheRulesOfAReaderIsAnError(t *testing.T) {
	for _, size := range sizes {
		for name, read := range map[string]func([]byte) (int, error){
			"Read returned":          func(p []byte) (int, error) { return len(p) + 1, nil },
			"Read returned -1 of":    func([]byte) (int, error) { return -1, nil },
			io.ErrNoProgress.Error(): func([]byte) (int, error) { return 0, nil },
		} {
			f, j := newFetcher(), newJob(size)
			j.blob.Open = func(_ context.Context, off, _ int64) (content.Body, error) {
				return content.Body{ReadCloser: io.NopCloser(readFunc(read)), Start: off}, nil
			}
			_, err := f.Fetch(t.Context(), j.blob)
			assert.ErrorIs(t, err, content.ErrNetwork, "%d bytes: %s", size, name)
			assert.ErrorContains(t, err, name, "%d bytes", size)
			assert.NoError(t, f.Idle())
		}
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
