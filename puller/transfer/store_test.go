package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A memStore is a content.Store in memory that checks what is done to it.
type memStore struct {
	mu       sync.Mutex
	blobs    map[digest.Digest][]byte
	partials map[digest.Digest]*partial
	tags     map[reference.Reference]ocispec.Descriptor
	locks    map[digest.Digest]chan struct{}
	ingests  map[digest.Digest]int // how often each digest was ingested
	opened   int                   // ingests that are not over
	problems []error

	fullAt  int64         // WriteAt fails with ENOSPC from this offset on; 0 = never
	fullFor digest.Digest // only of this blob; "" = of all
	free    int64         // what Free says; 0 = nobody knows
	onTag   func()
}

type partial struct {
	data []byte
	have [][2]int64
}

var (
	_ content.Store  = (*memStore)(nil)
	_ content.Spacer = (*memStore)(nil)
)

func newMemStore() *memStore {
	return &memStore{
		blobs: map[digest.Digest][]byte{}, partials: map[digest.Digest]*partial{},
		tags: map[reference.Reference]ocispec.Descriptor{}, locks: map[digest.Digest]chan struct{}{},
		ingests: map[digest.Digest]int{},
	}
}

func (s *memStore) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	desc, ok := s.tags[ref]
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("%s: %w", ref, fs.ErrNotExist)
	}
	return desc, ctx.Err()
}

func (s *memStore) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blobs[desc.Digest]
	return ok && int64(len(data)) == desc.Size, ctx.Err()
}

func (s *memStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: %w", desc.Digest, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(data)), ctx.Err()
}

func (s *memStore) Tag(ctx context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onTag != nil {
		s.onTag()
	}
	if _, ok := s.blobs[desc.Digest]; !ok {
		s.problems = append(s.problems, fmt.Errorf("%s tagged before %s is stored", ref, desc.Digest))
	}
	s.tags[ref] = desc
	return ctx.Err()
}

func (s *memStore) Free(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		return 1 << 62, nil
	}
	return s.free, nil
}

func (s *memStore) Kept(_ context.Context, desc ocispec.Descriptor) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	if p := s.partials[desc.Digest]; p != nil {
		for _, h := range p.have {
			n += h[1]
		}
	}
	return n, nil
}

func (s *memStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	s.mu.Lock()
	lock := s.locks[desc.Digest]
	if lock == nil {
		lock = make(chan struct{}, 1)
		s.locks[desc.Digest] = lock
	}
	s.mu.Unlock()
	select {
	case lock <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if data, ok := s.blobs[desc.Digest]; ok && int64(len(data)) == desc.Size {
		<-lock
		return nil, fs.ErrExist
	}
	s.ingests[desc.Digest]++
	s.opened++
	p := s.partials[desc.Digest]
	if p == nil {
		p = &partial{}
		s.partials[desc.Digest] = p
	}
	if int64(len(p.data)) < desc.Size {
		p.data = append(p.data, make([]byte, desc.Size-int64(len(p.data)))...)
	}
	return &memIngest{s: s, desc: desc, p: p, lock: lock}, nil
}

func (s *memStore) problem(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	s.problems = append(s.problems, err)
	return err
}

type memIngest struct {
	s    *memStore
	desc ocispec.Descriptor
	p    *partial
	lock chan struct{}
	over bool
}

func (in *memIngest) Have() iter.Seq2[int64, int64] {
	in.s.mu.Lock()
	have := append([][2]int64(nil), in.p.have...)
	in.s.mu.Unlock()
	return func(yield func(int64, int64) bool) {
		for _, h := range have {
			if !yield(h[0], h[1]) {
				return
			}
		}
	}
}

func (in *memIngest) WriteAt(b []byte, off int64) (int, error) {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	end := off + int64(len(b))
	if in.over || off < 0 || end > in.desc.Size {
		return 0, in.s.problem("write of [%d,%d) in a blob of %d, over %v", off, end, in.desc.Size, in.over)
	}
	if in.s.fullAt > 0 && end > in.s.fullAt && (in.s.fullFor == "" || in.s.fullFor == in.desc.Digest) {
		n := max(0, in.s.fullAt-off)
		copy(in.p.data[off:], b[:n])
		return int(n), &fs.PathError{Op: "write", Path: "blob", Err: content.ErrNoSpace}
	}
	copy(in.p.data[off:], b)
	in.p.note(off, end)
	return len(b), nil
}

// note keeps what was written as ascending ranges that are apart.
func (p *partial) note(off, end int64) {
	have := [][2]int64{}
	for _, h := range p.have {
		if h[0]+h[1] < off || end < h[0] {
			have = append(have, h)
			continue
		}
		off, end = min(off, h[0]), max(end, h[0]+h[1])
	}
	i := 0
	for i < len(have) && have[i][0] < off {
		i++
	}
	p.have = append(have[:i:i], append([][2]int64{{off, end - off}}, have[i:]...)...)
}

func (in *memIngest) ReadAt(b []byte, off int64) (int, error) {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	if in.over || off >= int64(len(in.p.data)) {
		return 0, errors.Join(io.EOF, in.s.problem("read at %d, over %v", off, in.over))
	}
	return copy(b, in.p.data[off:]), nil
}

func (in *memIngest) Commit(ctx context.Context) error {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	data := in.p.data[:in.desc.Size]
	whole := in.desc.Size == 0 || len(in.p.have) == 1 && in.p.have[0] == [2]int64{0, in.desc.Size}
	if in.over || !whole || !verify.Bytes(in.desc.Digest, data) {
		return in.s.problem("commit of %s: over %v, ranges %v", in.desc.Digest, in.over, in.p.have)
	}
	in.s.blobs[in.desc.Digest] = data
	in.end(true)
	return nil
}

func (in *memIngest) Discard() error {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	if in.over {
		return in.s.problem("discard of an ingest that is over")
	}
	in.end(true)
	return nil
}

func (in *memIngest) Close() error {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	if !in.over {
		in.end(len(in.p.have) == 0)
	}
	return nil
}

func (in *memIngest) end(remove bool) {
	in.over = true
	in.s.opened--
	if remove {
		delete(in.s.partials, in.desc.Digest)
	}
	<-in.lock
}
