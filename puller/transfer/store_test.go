package transfer_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newRuntime(t testing.TB, conf transfer.Config) *transfer.Runtime {
	rt, err := transfer.New(conf)
	require.NoError(t, err)
	return rt
}

// A memStore is a pullertest.MemStore that records what a Runtime must not do with a
// Store, that knows its free space, and that can be full.
type memStore struct {
	pullertest.MemStore

	mu       sync.Mutex
	blobs    map[digest.Digest]int64     // the sizes of those that are stored
	partials map[digest.Digest]spans.Set // what was written of others
	tags     map[reference.Reference]ocispec.Descriptor
	ingests  map[digest.Digest]int // how often each digest was ingested
	opened   int                   // ingests that are not over
	problems []error

	fullAt  int64         // WriteAt fails with ENOSPC from this offset on; 0 = never
	fullFor digest.Digest // only of this blob; "" = of all
	free    int64         // what Free says; 0 = not known
	onTag   func()
}

var (
	_ content.Store           = (*memStore)(nil)
	_ content.SpaceReporter   = (*memStore)(nil)
	_ content.PartialReporter = (*memStore)(nil)
)

func newMemStore() *memStore {
	return &memStore{
		blobs: map[digest.Digest]int64{}, partials: map[digest.Digest]spans.Set{},
		tags: map[reference.Reference]ocispec.Descriptor{}, ingests: map[digest.Digest]int{},
	}
}

// put stores a blob as another process would have.
func (s *memStore) put(t testing.TB, data []byte) {
	in := s.ingestOf(t, digestOf(data), data)
	_, err := in.WriteAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, in.Commit(t.Context()))
	delete(s.ingests, digestOf(data))
}

// keep puts ranges of data into the store as an earlier try would have left them.
func (s *memStore) keep(t testing.TB, data []byte, ranges ...[2]int64) {
	s.keepAs(t, digestOf(data), data, ranges...)
}

// keepAs keeps ranges of data as those of the blob with digest d.
func (s *memStore) keepAs(t testing.TB, d digest.Digest, data []byte, ranges ...[2]int64) {
	in := s.ingestOf(t, d, data)
	for _, r := range ranges {
		_, err := in.WriteAt(data[r[0]:r[0]+r[1]], r[0])
		require.NoError(t, err)
	}
	require.NoError(t, in.Close())
	delete(s.ingests, d)
}

// flipped is data with one bit of a byte changed.
func flipped(data []byte, at int64) []byte {
	data = bytes.Clone(data)
	data[at] ^= 1
	return data
}

func (s *memStore) ingestOf(t testing.TB, d digest.Digest, data []byte) content.Ingest {
	in, err := s.Ingest(t.Context(), ocispec.Descriptor{Digest: d, Size: int64(len(data))})
	require.NoError(t, err)
	return in
}

// clean asserts that the Runtime used the Store as it must.
func (s *memStore) clean(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Empty(t, s.problems, "what was done to the store")
	assert.Zero(t, s.opened, "ingests left open")
}

// problem records a misuse. s.mu is held.
func (s *memStore) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf(format, args...))
}

func (s *memStore) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	desc, err := s.MemStore.Lookup(ctx, ref)
	return desc, cmp.Or(err, ctx.Err())
}

func (s *memStore) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	has, err := s.MemStore.Has(ctx, desc)
	return has, cmp.Or(err, ctx.Err())
}

func (s *memStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onTag != nil {
		s.onTag()
	}
	err := s.MemStore.Tag(ctx, ref, desc)
	if err != nil {
		s.problem("tag: %w", err)
		return err
	}
	s.tags[ref] = desc
	return ctx.Err()
}

func (s *memStore) Free(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.free, 1<<62), nil
}

func (s *memStore) Kept(_ context.Context, desc ocispec.Descriptor) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partials[desc.Digest].Total(), nil
}

func (s *memStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	in, err := s.MemStore.Ingest(ctx, desc)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ingests[desc.Digest]++
	s.opened++
	return &memIngest{Ingest: in, s: s, desc: desc}, nil
}

// A memIngest is an ingest of a memStore, whose lock guards over.
type memIngest struct {
	content.Ingest
	s    *memStore
	desc ocispec.Descriptor
	over bool
}

func (in *memIngest) WriteAt(b []byte, off int64) (int, error) {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	end := off + int64(len(b))
	if s := in.s; s.fullAt > 0 && end > s.fullAt && (s.fullFor == "" || s.fullFor == in.desc.Digest) {
		return int(max(0, s.fullAt-off)), &fs.PathError{Op: "write", Path: "blob", Err: content.ErrNoSpace}
	}
	n, err := in.Ingest.WriteAt(b, off)
	if err != nil {
		in.s.problem("write of [%d,%d): %w", off, end, err)
		return n, err
	}
	in.s.partials[in.desc.Digest] = in.s.partials[in.desc.Digest].Add(spans.Span{Off: off, End: end})
	return n, nil
}

func (in *memIngest) ReadAt(b []byte, off int64) (int, error) {
	n, err := in.Ingest.ReadAt(b, off)
	if err != nil {
		in.s.mu.Lock()
		defer in.s.mu.Unlock()
		in.s.problem("read at %d: %w", off, err)
	}
	return n, err
}

func (in *memIngest) Commit(ctx context.Context) error {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := in.Ingest.Commit(ctx); err != nil {
		in.s.problem("commit of %s: %w", in.desc.Digest, err)
		return err
	}
	in.s.blobs[in.desc.Digest] = in.desc.Size
	in.end(true)
	return nil
}

func (in *memIngest) Discard() error {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	if in.over {
		in.s.problem("discard of an ingest that is over")
	}
	in.end(true)
	return in.Ingest.Discard()
}

func (in *memIngest) Close() error {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	in.end(false)
	return in.Ingest.Close()
}

// end says that the ingest is over. The store's lock is held.
func (in *memIngest) end(forget bool) {
	if in.over {
		return
	}
	in.over = true
	in.s.opened--
	if forget {
		delete(in.s.partials, in.desc.Digest)
	}
}
