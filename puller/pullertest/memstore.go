package pullertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A MemStore is a content.Store in memory, for tests and for programs that read small
// images. The zero MemStore is empty and ready for use; it must not be copied. Unlike other
// stores it verifies digests itself when content is committed. Its methods may be called
// concurrently.
type MemStore struct {
	// InOrder makes the MemStore behave as a store that can only append, such as containerd's:
	// each content.Ingest that it returns is a content.OrderedIngest whose ReadAt fails, and a
	// content.VerifyingIngest. Set InOrder before the first call.
	InOrder bool

	mu       sync.Mutex
	blobs    map[digest.Digest][]byte
	partials map[digest.Digest]*memPartial
	busy     map[digest.Digest]chan struct{} // closed when the ingest ends
	tags     map[reference.Reference]ocispec.Descriptor
}

// A memPartial has the bytes of a blob that were written so far.
type memPartial struct {
	data    []byte
	written spans.Set
}

// Lookup implements content.Store.
func (m *MemStore) Lookup(_ context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	desc, ok := m.tags[ref]
	if !ok && ref.Digest() != "" {
		desc, ok = m.byDigest(ref)
	}
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("%q is not in the store: %w", ref.String(), fs.ErrNotExist)
	}
	return desc, nil
}

// byDigest finds ref's digest among the images of its repository and the manifests that
// their indexes list and that are stored.
func (m *MemStore) byDigest(ref reference.Reference) (ocispec.Descriptor, bool) {
	for tagged, desc := range m.tags {
		if tagged.Name() != ref.Name() {
			continue
		}
		if found, ok := m.within(desc, ref.Digest(), index.MaxDepth, map[digest.Digest]bool{}); ok {
			return found, true
		}
	}
	return ocispec.Descriptor{}, false
}

// within finds d at desc or in the indexes below it, at most depth levels of indexes
// below the first. It reads each document once.
func (m *MemStore) within(desc ocispec.Descriptor, d digest.Digest, depth int, seen map[digest.Digest]bool) (ocispec.Descriptor, bool) {
	if desc.Digest == d {
		return desc, m.has(desc)
	}
	if depth < 0 || seen[desc.Digest] {
		return ocispec.Descriptor{}, false
	}
	seen[desc.Digest] = true
	var idx struct{ Manifests []ocispec.Descriptor }
	if json.Unmarshal(m.blobs[desc.Digest], &idx) != nil {
		return ocispec.Descriptor{}, false // a blob that is not a document has no manifests
	}
	for _, child := range idx.Manifests {
		if found, ok := m.within(child, d, depth-1, seen); ok {
			return found, true
		}
	}
	return ocispec.Descriptor{}, false
}

// Has implements content.Store.
func (m *MemStore) Has(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.has(desc), nil
}

// has is Has. The caller holds the lock.
func (m *MemStore) has(desc ocispec.Descriptor) bool {
	data, ok := m.blobs[desc.Digest]
	return ok && int64(len(data)) == desc.Size
}

// Open implements content.Store.
func (m *MemStore) Open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("%.80q is not in the store: %w", desc.Digest, fs.ErrNotExist)
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Tag implements content.Store.
func (m *MemStore) Tag(_ context.Context, ref reference.Reference, desc ocispec.Descriptor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.blobs[desc.Digest]; !ok {
		return fmt.Errorf("tag %q: %.80q is not in the store: %w", ref.String(), desc.Digest, fs.ErrNotExist)
	}
	if m.tags == nil {
		m.tags = map[reference.Reference]ocispec.Descriptor{}
	}
	m.tags[ref] = desc
	return nil
}

// Ingest implements content.Store. The MemStore keeps the parts of a blob that were
// written, until the blob is committed or discarded.
func (m *MemStore) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if err := verify.Digest(desc.Digest); err != nil {
		return nil, &content.Error{Reason: content.ErrBadDigest, Err: err}
	}
	if desc.Size < 0 {
		return nil, &content.Error{Reason: content.ErrSizeMismatch, Err: fmt.Errorf("size %d", desc.Size)}
	}
	for {
		ingest, busy, err := m.tryIngest(desc)
		if busy == nil {
			return ingest, err
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// tryIngest begins an ingest. If another ingest of the same blob is open, tryIngest
// returns a channel that is closed when the other ingest ends.
func (m *MemStore) tryIngest(desc ocispec.Descriptor) (content.Ingest, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.has(desc) {
		return nil, nil, fmt.Errorf("%.80q: %w", desc.Digest, fs.ErrExist)
	}
	if busy := m.busy[desc.Digest]; busy != nil {
		return nil, busy, nil
	}
	if m.blobs == nil {
		m.blobs = map[digest.Digest][]byte{}
		m.partials = map[digest.Digest]*memPartial{}
		m.busy = map[digest.Digest]chan struct{}{}
	}
	m.busy[desc.Digest] = make(chan struct{})
	if m.partials[desc.Digest] == nil {
		m.partials[desc.Digest] = &memPartial{}
	}
	ingest := &memIngest{store: m, desc: desc, partial: m.partials[desc.Digest]}
	if m.InOrder {
		return &memAppend{ingest}, nil, nil
	}
	return ingest, nil, nil
}

// A memIngest is a content.Ingest of a MemStore. The lock of the MemStore guards it.
type memIngest struct {
	store   *MemStore
	desc    ocispec.Descriptor
	partial *memPartial
	ended   bool
}

var errEnded = errors.New("the ingest has ended")

func (g *memIngest) WriteAt(p []byte, off int64) (int, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	return g.writeAt(p, off)
}

// writeAt is WriteAt. The caller holds the lock.
func (g *memIngest) writeAt(p []byte, off int64) (int, error) {
	if g.ended {
		return 0, errEnded
	}
	end := off + int64(len(p))
	if off < 0 || end > g.desc.Size {
		return 0, &content.Error{Reason: content.ErrSizeMismatch, Err: fmt.Errorf("bytes %d to %d of %d", off, end, g.desc.Size)}
	}
	if missing := end - int64(len(g.partial.data)); missing > 0 {
		g.partial.data = append(g.partial.data, make([]byte, missing)...)
	}
	copy(g.partial.data[off:], p)
	g.partial.written = g.partial.written.Add(spans.Span{Off: off, End: end})
	return len(p), nil
}

func (g *memIngest) ReadAt(p []byte, off int64) (int, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	if g.ended {
		return 0, errEnded
	}
	return bytes.NewReader(g.partial.data).ReadAt(p, off)
}

func (g *memIngest) Have() iter.Seq2[int64, int64] {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	return slices.Clone(g.partial.written).Have()
}

func (g *memIngest) Commit(context.Context) error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	return g.commit()
}

// commit is Commit. The caller holds the lock.
func (g *memIngest) commit() error {
	if g.ended {
		return errEnded
	}
	if !g.partial.written.Whole(g.desc.Size) {
		return &content.Error{Reason: content.ErrSizeMismatch, Err: fmt.Errorf("not all of %.80q was written", g.desc.Digest)}
	}
	if !verify.Bytes(g.desc.Digest, g.partial.data) {
		return &content.Error{Reason: content.ErrDigestMismatch, Err: fmt.Errorf("what was written is not %.80q", g.desc.Digest)}
	}
	g.store.blobs[g.desc.Digest] = g.partial.data
	g.end(true)
	return nil
}

func (g *memIngest) Discard() error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	g.end(true)
	return nil
}

func (g *memIngest) Close() error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	g.end(false)
	return nil
}

// end ends the ingest, so that the next one of the digest can begin. With forget it throws
// away what was written. The caller holds the lock.
func (g *memIngest) end(forget bool) {
	if g.ended {
		return
	}
	g.ended = true
	if forget {
		delete(g.store.partials, g.desc.Digest)
	}
	close(g.store.busy[g.desc.Digest])
	delete(g.store.busy, g.desc.Digest)
}

// A memAppend is a content.OrderedIngest and a content.VerifyingIngest of a MemStore. The
// lock of the MemStore guards it.
type memAppend struct{ *memIngest }

var (
	_ content.OrderedIngest   = (*memAppend)(nil)
	_ content.VerifyingIngest = (*memAppend)(nil)
)

func (g *memAppend) Offset() int64 {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	return int64(len(g.partial.data))
}

func (g *memAppend) Verifies() bool { return true }

func (g *memAppend) WriteAt(p []byte, off int64) (int, error) {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	if at := int64(len(g.partial.data)); off != at {
		return 0, &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("the store takes bytes only in order: byte %d is next, not byte %d", at, off)}
	}
	return g.writeAt(p, off)
}

func (g *memAppend) ReadAt([]byte, int64) (int, error) {
	return 0, &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("read back: %w", errors.ErrUnsupported)}
}

// Commit discards wrong bytes, as a content.VerifyingIngest must.
func (g *memAppend) Commit(context.Context) error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	err := g.commit()
	if err != nil {
		g.end(true)
	}
	return err
}
