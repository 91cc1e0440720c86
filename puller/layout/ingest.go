package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
)

// An ingest is one blob while it arrives. It holds the open partial, which is the file
// with the blob's bytes, and the blob's lock. As long as the partial is written from its
// start without a gap, its length shows which bytes were written. From the first gap on,
// a second file, the side list, records the written ranges.
type ingest struct {
	b      *blobs
	desc   ocispec.Descriptor
	f      disk.File
	unlock func()
	kept   spans.Set // ranges that an earlier ingest left

	mu        sync.Mutex
	done      spans.Set // all written ranges
	reserved  int64     // end of the room that was reserved; see reserve
	ahead     int64     // the part of that room that was not written yet
	unflushed int64     // bytes written after the last WriteBack
	flushing  atomic.Bool
	flushes   sync.WaitGroup // one WriteBack at a time
	list      disk.File      // the side list; nil as long as there was no gap
	fresh     spans.Set      // written ranges that are not in the list yet
	unlisted  int64          // bytes in fresh
	listEnd   int64          // length of the records in the list
	arrived   bool           // the ingest is no longer counted in blobs.arriving
	ended     bool

	synced    bool        // Commit synced the file before the batch
	stamped   time.Time   // time of access that Commit set
	published fs.FileInfo // describes the partial at its rename to the blob's name
}

var _ content.Ingest = (*ingest)(nil)

// ingest starts a blob, or continues with its partial; see Layout.Ingest.
func (b *blobs) ingest(ctx context.Context, desc ocispec.Descriptor) (*ingest, error) {
	b.arriving.begin()
	in, err := b.lockAndBegin(ctx, desc)
	if err != nil {
		b.arriving.end()
	}
	return in, err
}

// lockAndBegin waits for the blob's lock and calls begin.
func (b *blobs) lockAndBegin(ctx context.Context, desc ocispec.Descriptor) (*ingest, error) {
	if err := b.ready(desc.Digest); err != nil {
		return nil, b.fail(err, "store blob %s", desc.Digest)
	}
	unlock, err := b.lock(ctx, string(desc.Digest))
	if err != nil {
		return nil, err
	}
	in, err := b.begin(ctx, desc)
	if err != nil {
		unlock()
		if errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		return nil, b.failOrCtx(ctx, err, "store blob %s", desc.Digest)
	}
	in.unlock = unlock
	return in, nil
}

// begin opens the partial of a blob, or makes one. It returns fs.ErrExist if the blob is
// stored. The caller holds the blob's lock.
func (b *blobs) begin(ctx context.Context, desc ocispec.Descriptor) (*ingest, error) {
	ok, err := b.hasToTag(ctx, desc)
	if err != nil {
		return nil, err
	}
	if ok {
		return nil, fmt.Errorf("layout %q: blob %s is stored: %w", b.dir, desc.Digest, fs.ErrExist)
	}
	in := &ingest{b: b, desc: desc}
	if err := in.open(); err != nil {
		if errors.Is(err, fs.ErrExist) { // a file exists; to the caller fs.ErrExist means that the content is stored
			err = opaque(err)
		}
		return nil, err
	}
	if err := b.checkSpace(desc.Size - in.kept.Total()); err != nil {
		in.f.Close()
		if in.list != nil {
			in.list.Close()
		}
		if len(in.kept) == 0 {
			in.removeFiles()
		}
		return nil, err
	}
	return in, nil
}

// askFreeFrom is the number of missing bytes from which an ingest first compares them
// with the free space.
const askFreeFrom = 1 << 20

// checkSpace returns an error that wraps content.ErrNoSpace if the file system has less
// free space than the missing bytes.
func (b *blobs) checkSpace(missing int64) error {
	if missing < askFreeFrom {
		return nil
	}
	free, err := b.free()
	if err != nil {
		b.log.Debug("the free space is not known", "error", err)
		return nil
	}
	if free < missing {
		return fmt.Errorf("the blob needs %d more bytes, and %d bytes are free: %w", missing, free, content.ErrNoSpace)
	}
	return nil
}

// free returns how many bytes this process can still write. Room that ingests reserved
// and did not write counts as free, because the missing bytes of these ingests go there.
func (b *blobs) free() (int64, error) {
	n, err := b.fs.Free()
	if ahead := b.ahead.Load(); n < math.MaxInt64-ahead {
		n += ahead
	}
	return n, err
}

// Have yields the ranges, as offset and length, that an earlier ingest left.
func (in *ingest) Have() iter.Seq2[int64, int64] { return in.kept.Have() }

// WriteAt writes to the partial. It returns an error of kind content.ErrSizeMismatch for
// bytes beyond the blob's size.
func (in *ingest) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > in.desc.Size || int64(len(p)) > in.desc.Size-off {
		return 0, &content.Error{
			Reason: content.ErrSizeMismatch,
			Err:    fmt.Errorf("blob %s: a write of %d bytes at offset %d goes beyond its size of %d", in.desc.Digest, len(p), off, in.desc.Size),
		}
	}
	if err := in.beforeWrite(off, off+int64(len(p))); err != nil {
		return 0, in.b.fail(err, "write blob %s", in.desc.Digest)
	}
	n, err := in.f.WriteAt(p, off)
	if n > 0 {
		if werr := in.wrote(off, off+int64(n)); err == nil {
			err = werr
		}
	}
	return n, in.b.fail(err, "write blob %s", in.desc.Digest)
}

// beforeWrite makes the side list if a write at off leaves a gap before off. The first
// record of the list is the range that was written until now. beforeWrite writes the
// record before the gap exists. So a crash cannot leave a partial that has a gap and no
// list. If there is no gap, beforeWrite reserves room for the write up to end.
func (in *ingest) beforeWrite(off, end int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return fs.ErrClosed
	}
	if in.list != nil {
		return nil
	}
	if off <= in.beginning().End {
		in.reserve(end)
		return nil
	}
	list, err := in.b.createFresh(listName(in.desc.Digest))
	if err != nil {
		return err
	}
	in.list, in.listEnd = list, 0
	in.fresh = append(in.fresh[:0], in.beginning())
	if err := in.flushList(); err != nil {
		list.Close() // a list without a record would mean "written without a gap"
		in.list, in.fresh = nil, nil
		return err
	}
	return nil
}

// beginning returns the written range at the start of the blob. Without a side list, no
// other range was written.
func (in *ingest) beginning() spans.Span {
	if len(in.done) == 0 {
		return spans.Span{}
	}
	return in.done[0]
}

// wrote notes that a range was written. After every writeBackEvery bytes it starts a
// WriteBack. After every listEvery bytes it appends to the side list, if there is one.
func (in *ingest) wrote(off, end int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return fs.ErrClosed
	}
	in.done = in.done.Add(spans.Span{Off: off, End: end})
	in.countAhead()
	in.unflushed += end - off
	if in.unflushed >= in.b.tune.writeBackEvery && in.flushing.CompareAndSwap(false, true) {
		in.unflushed = 0
		in.flushes.Go(in.writeBack)
	}
	if in.list == nil {
		return nil
	}
	in.fresh = in.fresh.Add(spans.Span{Off: off, End: end})
	in.unlisted += end - off
	if in.unlisted >= max(in.b.tune.listEvery, in.desc.Size/mostAppends) {
		return in.flushList()
	}
	return nil
}

const (
	// reserveFrom is the size from which a blob has room reserved for it.
	reserveFrom = 8 << 20
	// reserveAhead is how much room is reserved at a time.
	reserveAhead = 8 << 20
)

// reserve reserves room for the bytes up to end, and more room after them. A file system
// that is asked once for many blocks has less to do for each write and each sync. If the
// request fails, reserve makes no other request for this ingest. The caller holds mu.
func (in *ingest) reserve(end int64) {
	if end <= in.reserved || in.desc.Size < reserveFrom {
		return
	}
	from := max(in.reserved, in.beginning().End)
	to := min(in.desc.Size, max(end, from+reserveAhead))
	if in.f.Reserve(from, to-from) != nil { // a write reports what is wrong
		in.reserved = math.MaxInt64
		return
	}
	in.reserved = to
	in.countAhead()
}

// countAhead updates blobs.ahead, the sum of the room that is reserved and not written.
// The system counts it as used, and the callers of free count the same bytes as missing.
// The caller holds mu.
func (in *ingest) countAhead() {
	ahead := int64(0)
	if !in.ended && in.reserved <= in.desc.Size {
		ahead = max(0, in.reserved-in.beginning().End)
	}
	in.b.ahead.Add(ahead - in.ahead)
	in.ahead = ahead
}

// writeBack starts a WriteBack of the partial. It runs in its own goroutine, because
// WriteBack takes milliseconds, and longer when the disk's queue is full.
func (in *ingest) writeBack() {
	in.f.WriteBack()
	in.flushing.Store(false)
}

// ReadAt reads from the partial.
func (in *ingest) ReadAt(p []byte, off int64) (int, error) {
	n, err := in.f.ReadAt(p, off)
	if err == io.EOF {
		return n, err
	}
	return n, in.b.fail(err, "read what has arrived of blob %s", in.desc.Digest)
}

// Close ends the ingest and keeps the written bytes for a later one.
func (in *ingest) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return nil
	}
	err := in.flushList()
	in.end(len(in.done) == 0)
	return in.b.fail(err, "keep what has arrived of blob %s", in.desc.Digest)
}

// Discard ends the ingest and removes the written bytes.
func (in *ingest) Discard() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return in.b.fail(fs.ErrClosed, "discard blob %s", in.desc.Digest)
	}
	return in.b.fail(in.end(true), "discard blob %s", in.desc.Digest)
}

// arrive notes that all bytes have arrived, or that the ingest ends without them. The
// caller holds mu.
func (in *ingest) arrive() {
	if !in.arrived {
		in.arrived = true
		in.b.arriving.end()
	}
}

// end closes the files and releases the blob's lock. Before the release, it removes the
// files if remove is true. The caller holds mu.
func (in *ingest) end(remove bool) (err error) {
	in.ended = true
	in.countAhead()
	in.arrive()
	if in.list != nil {
		in.list.Close()
	}
	in.flushes.Wait()
	in.f.Close()
	if remove {
		err = in.removeFiles()
	}
	in.unlock()
	return err
}
