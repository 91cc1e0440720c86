package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/disk"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
)

// An ingest is one partial, open and locked.
type ingest struct {
	l      *Layout
	desc   ocispec.Descriptor
	f      disk.File
	unlock func()
	kept   spans.Set // as Have tells

	mu        sync.Mutex
	done      spans.Set // written in all
	unflushed int64     // bytes since the last WriteBack
	flushing  atomic.Bool
	flushes   sync.WaitGroup // one at a time
	list      disk.File      // nil as long as what was written is the partial's beginning
	fresh     spans.Set      // written, not yet listed
	unlisted  int64          // bytes in fresh
	listEnd   int64
	arrived   bool // no longer counted in Layout.open
	ended     bool
	stamped   time.Time // its time of access as Commit set it
	published fs.FileInfo
}

var _ content.Ingest = (*ingest)(nil)

// Ingest begins to store desc's content, or goes on with what an earlier one
// left. It waits, as long as ctx lets it, while another goroutine or process
// ingests the same digest. The error wraps fs.ErrExist if the content is
// stored, also if it came while waiting, and is of kind content.ErrStore if the
// directory cannot be written to or has not the space.
func (l *Layout) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	if err := l.ready(desc.Digest); err != nil {
		return nil, l.fail(err, "store blob %s", desc.Digest)
	}
	return l.ingest(ctx, desc)
}

func (l *Layout) ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	l.sweepNow()
	unlock, err := l.lock(ctx, string(desc.Digest))
	if err != nil {
		return nil, err
	}
	in, err := l.begin(ctx, desc)
	if err != nil {
		unlock()
		if errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if cerr := ctx.Err(); cerr != nil && errors.Is(err, cerr) {
			return nil, err
		}
		return nil, l.fail(err, "store blob %s", desc.Digest)
	}
	in.unlock = unlock
	l.open.Add(1)
	return in, nil
}

func (l *Layout) begin(ctx context.Context, desc ocispec.Descriptor) (*ingest, error) {
	ok, err := l.find(ctx, desc)
	if err != nil {
		return nil, err
	}
	if ok {
		return nil, l.stored(desc.Digest)
	}
	in := &ingest{l: l, desc: desc}
	if err := in.open(); err != nil {
		return nil, hideExist(err)
	}
	if err := l.checkSpace(desc.Size - in.kept.Total()); err != nil {
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

// hideExist keeps an unexpected fs.ErrExist from reading as "the content is stored".
func hideExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return opaque(err)
	}
	return err
}

// Have yields the ranges that an earlier try left.
func (in *ingest) Have() iter.Seq2[int64, int64] { return in.kept.Have() }

// WriteAt refuses bytes beyond the blob's size.
func (in *ingest) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > in.desc.Size || int64(len(p)) > in.desc.Size-off {
		return 0, &content.Error{
			Kind: content.ErrSizeMismatch,
			Err:  fmt.Errorf("blob %s: %d bytes at %d, beyond its %d", in.desc.Digest, len(p), off, in.desc.Size),
		}
	}
	if err := in.beforeWrite(off); err != nil {
		return 0, in.l.fail(err, "write blob %s", in.desc.Digest)
	}
	n, err := in.f.WriteAt(p, off)
	if n > 0 {
		if werr := in.wrote(off, off+int64(n)); err == nil {
			err = werr
		}
	}
	return n, in.l.fail(err, "write blob %s", in.desc.Digest)
}

// beforeWrite begins the side list if there would be a hole before off: as long
// as there is none, the partial's length says what was written. The list's first
// record is that beginning, and is there before the hole is.
func (in *ingest) beforeWrite(off int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return fs.ErrClosed
	}
	if in.list != nil {
		return nil
	}
	if off <= in.beginning().End {
		return nil
	}
	list, err := in.l.createFresh(listName(in.desc.Digest))
	if err != nil {
		return err
	}
	in.list, in.listEnd = list, 0
	in.fresh = append(in.fresh[:0], in.beginning())
	if err := in.flushList(); err != nil {
		list.Close() // without a record it means what no list does
		in.list, in.fresh = nil, nil
		return err
	}
	return nil
}

// beginning is what was written as long as there is no side list.
func (in *ingest) beginning() spans.Span {
	if len(in.done) == 0 {
		return spans.Span{}
	}
	return in.done[0]
}

// wrote takes note of what was written, has it written back and tells the side
// list, if there is one, now and then.
func (in *ingest) wrote(off, end int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return fs.ErrClosed
	}
	in.done = in.done.Add(spans.Span{Off: off, End: end})
	in.unflushed += end - off
	if in.unflushed >= in.l.tune.writeBackEvery && in.flushing.CompareAndSwap(false, true) {
		in.unflushed = 0
		in.flushes.Go(in.writeBack)
	}
	if in.list == nil {
		return nil
	}
	in.fresh = in.fresh.Add(spans.Span{Off: off, End: end})
	in.unlisted += end - off
	if in.unlisted >= max(in.l.tune.listEvery, in.desc.Size/mostAppends) {
		return in.flushList()
	}
	return nil
}

// writeBack takes milliseconds, and longer when the disk's queue is full, in
// which connection and hash would stand still.
func (in *ingest) writeBack() {
	in.f.WriteBack()
	in.flushing.Store(false)
}

// mostAppends is how often a blob's side list is appended to at most, which keeps the
// list of a very large blob short: 16 connections make one of 10 MiB.
const mostAppends = 32 << 10

// flushList appends what was written to the side list, if there is one. It is not
// synced: after SIGKILL the system still has it, and after a loss of power what it
// tells is hashed before it is used, like everything else.
func (in *ingest) flushList() error {
	if in.list == nil || len(in.fresh) == 0 {
		return nil
	}
	n, err := in.list.WriteAt(appendRecords(nil, in.fresh), in.listEnd)
	if err != nil {
		return err // records that are half written are written over by the next
	}
	in.listEnd += int64(n)
	in.fresh, in.unlisted = in.fresh[:0], 0
	return nil
}

// ReadAt reads what was written.
func (in *ingest) ReadAt(p []byte, off int64) (int, error) {
	n, err := in.f.ReadAt(p, off)
	if err == io.EOF {
		return n, err
	}
	return n, in.l.fail(err, "read what there is of blob %s", in.desc.Digest)
}

// Close keeps what was written for a later try.
func (in *ingest) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return nil
	}
	err := in.flushList()
	empty := len(in.done) == 0
	in.end(empty)
	return in.l.fail(err, "keep what there is of blob %s", in.desc.Digest)
}

// Discard throws away what was written.
func (in *ingest) Discard() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return in.l.fail(fs.ErrClosed, "discard blob %s", in.desc.Digest)
	}
	return in.l.fail(in.end(true), "discard blob %s", in.desc.Digest)
}

// arrive says that no more will be written. The caller holds mu.
func (in *ingest) arrive() {
	if !in.arrived {
		in.arrived = true
		in.l.open.Add(-1)
	}
}

// end closes the files and gives the lock back; remove says to remove the files
// too. The caller holds mu.
func (in *ingest) end(remove bool) (err error) {
	in.ended = true
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
