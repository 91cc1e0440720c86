// Package fetch copies one blob from a content.Source into a content.Ingest. It asks for
// the bytes that are missing, hashes all bytes in order, compares the digest and commits.
// It does not hash the bytes if a content.VerifyingIngest verifies them. It fetches the bytes
// of a content.OrderedIngest over one connection.
//
// A small blob is read, hashed and written by one goroutine. For a large blob, each
// connection has a goroutine that reads and a goroutine that writes what was read before,
// and the caller's goroutine hashes what was written. A [Fetcher] has what all fetches of
// a process share: buffers, the number of goroutines that hash, and the number of
// connections for large blobs.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	// largeSize is the size from which a blob is large. For a smaller one, handing
	// buffers to another goroutine costs more than it gains.
	largeSize = 2 << 20
	// maxRestarts is the largest number of times that a blob is fetched again from its
	// first byte, even if its Source has further hosts. No registry has so many mirrors.
	maxRestarts = 64
	// maxBodies is how many bodies of one attempt are rejected when the attempt fails.
	maxBodies = 16
)

// Large reports whether a blob of this size is fetched over connections that have to
// be acquired first; see Fetcher.AcquireConn.
func Large(size int64) bool { return size >= largeSize }

// A Config has the settings of a Fetcher. All fields must be set.
type Config struct {
	// Memory limits the buffers of all fetches, in bytes.
	Memory int64
	// MaxConns is the largest number of connections for all large blobs together,
	// and MaxConnsPerBlob the largest number for one of them.
	MaxConns, MaxConnsPerBlob int
	// NewHash returns a hash for the algorithm of a digest.
	NewHash func(digest.Digest) (hash.Hash, error)
	// Queue has the large blobs that wait for a connection.
	Queue Queue
	Log   *slog.Logger
}

// A Queue has large blobs that wait for their first connection. A free connection is
// given to one of them before it is given to a blob that has one already.
type Queue interface {
	// Waiting reports whether a blob waits only for a connection.
	Waiting() bool
	// Next starts the next blob. It reports whether it has started one.
	Next() bool
}

// A Fetcher fetches blobs, many of them at the same time. Before Fetch of a large blob
// the caller calls AcquireConn. It calls ReleaseConn when that blob does not need its
// connection any more.
type Fetcher struct {
	config  Config
	pool    *bufferPool
	hashing *hashLimit
	budget  *budget
}

// New returns a Fetcher.
func New(config Config) *Fetcher {
	hashing := newHashLimit()
	return &Fetcher{config, newBufferPool(config.Memory), hashing, newBudget(config.MaxConns, hashing)}
}

// AcquireConn takes the first connection of a large blob. It returns false if none is
// free. It does not wait.
func (f *Fetcher) AcquireConn() bool { return f.budget.acquireFirst() }

// ReleaseConn gives back the connection that AcquireConn took.
func (f *Fetcher) ReleaseConn() { f.budget.releaseFirst() }

// SetProcessors makes the Fetcher act as on a machine with n processors. It is for tests,
// before the first Fetch.
func (f *Fetcher) SetProcessors(n int) { f.hashing.slots = make(chan struct{}, n) }

// Idle returns an error that lists the buffers, connections and so on that the Fetcher
// still holds, and nil if it holds nothing. It is for tests.
func (f *Fetcher) Idle() error {
	buffers, hashes := f.pool.inUse(), len(f.hashing.slots)
	b := f.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if buffers+hashes+b.open+b.blobs+b.writers != 0 || b.opening {
		return fmt.Errorf("%d buffers, %d hashes, %d connections of %d blobs (opening %t), %d writes",
			buffers, hashes, b.open, b.blobs, b.opening, b.writers)
	}
	return nil
}

// A Blob says which blob is fetched, from where and to where.
type Blob struct {
	// Desc is the blob's descriptor. Data in it, if any, is the blob, verified.
	Desc ocispec.Descriptor
	// Open asks the Source for bytes, as content.Source.Blob does.
	Open func(ctx context.Context, off, n int64) (content.Body, error)
	// Ingest begins to store the blob, as content.Store.Ingest does.
	Ingest func(context.Context) (content.Ingest, error)
	// Has reports whether the blob is stored, as content.Store.Has does.
	Has func(context.Context) (bool, error)
	// Fetched is called when all bytes are written and verified, before they are
	// committed. From then on the blob needs no connection.
	Fetched func()
	// Progress is kept up to date while the blob is fetched.
	Progress *Progress
}

// A Progress says how far the fetch of a blob is.
type Progress struct {
	// Got counts bytes that have come since the last restart.
	Got atomic.Int64
	// Resumed is the number of bytes that an earlier fetch had left. It counts
	// once Begun is true.
	Resumed atomic.Int64
	Begun   atomic.Bool
	// Restarts counts how often the blob was begun again from its first byte.
	Restarts atomic.Int64
}

// restart counts a restart and sets the byte counts to zero.
func (p *Progress) restart() {
	p.Resumed.Store(0)
	p.Got.Store(0)
	p.Restarts.Add(1)
}

// Fetch stores the blob in the Store. present says that another process had stored it
// already. A panic of a callback in one of Fetch's goroutines is raised in the goroutine
// of the caller.
func (f *Fetcher) Fetch(ctx context.Context, blob Blob) (present bool, err error) {
	whole := false
	for restarts := 0; ; restarts++ {
		a := &attempt{Fetcher: f, Blob: blob, whole: whole}
		present, err := a.run(ctx)
		if err == nil {
			return present, nil
		}
		f.config.Log.Debug("blob not fetched", "digest", blob.Desc.Digest, "size", blob.Desc.Size, "error", err)
		a.panicked.Load().Raise()
		if !a.canRestart(err) || restarts == maxRestarts || ctx.Err() != nil {
			return false, err
		}
		blob.Progress.restart()
		whole = true
	}
}

// An attempt is one attempt to fetch the missing bytes of a blob and to commit the blob.
type attempt struct {
	*Fetcher
	Blob
	// whole says that the blob is fetched in one answer from the first byte on, because
	// the bytes that were kept, or that came in parts, were wrong.
	whole bool

	ingest   content.Ingest
	kept     spans.Set // what an earlier fetch left
	ordered  bool      // the ingest takes bytes only in order
	verifies bool      // the ingest compares the digest itself, so nothing is hashed

	panicked atomic.Pointer[panics.Error] // by the Source or the Store; see guard

	mu      sync.Mutex
	answers int           // bodies that were opened
	rejects []func() bool // the Reject of those that have one, at most maxBodies
}

// guard is deferred where the Source or the Store is called in one of an attempt's
// goroutines. It turns a panic into an error, which ends the attempt.
func (a *attempt) guard(err *error) {
	if v := recover(); v != nil {
		panicked := panics.New(v)
		a.panicked.CompareAndSwap(nil, panicked)
		*err = panicked
	}
}

// run makes the attempt. The ingest is over when it returns.
func (a *attempt) run(ctx context.Context) (present bool, err error) {
	err = a.begin(ctx)
	if errors.Is(err, fs.ErrExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer a.ingest.Close()
	err = a.fill(ctx)
	if panicked := a.panicked.Load(); panicked != nil {
		err = panicked // even if another connection brought the rest of the blob
	}
	if err != nil {
		// A partial that cannot become the blob, or that takes the room that is
		// missing, is thrown away.
		if wrongBytes(err) || noSpace(err) {
			if derr := a.ingest.Discard(); derr != nil {
				return false, errors.Join(err, StoreError("discard", derr))
			}
		}
		return false, err
	}
	a.Fetched()
	if err := a.ingest.Commit(ctx); err != nil {
		if a.verifies && wrongBytes(err) {
			// The ingest has discarded the bytes. If the blob is fetched again, that is one
			// connection more than the limit, because Fetched has given this connection back.
			return false, err
		}
		return false, StoreError("commit", err)
	}
	if a.verifies {
		return false, a.checkStored(ctx)
	}
	return false, nil
}

// checkStored returns an error if a Store that verifies blobs itself does not have the
// blob that it has committed.
func (a *attempt) checkStored(ctx context.Context) error {
	has, err := a.Has(ctx)
	if err != nil {
		return StoreError("look for what was committed", err)
	}
	if !has {
		return Errorf(content.ErrStore, "commit: the store reports that it has verified the blob, but does not have it")
	}
	return nil
}

// begin opens the ingest and learns which bytes an earlier fetch left.
func (a *attempt) begin(ctx context.Context) error {
	for range 2 {
		ingest, err := a.Ingest(ctx)
		if err != nil {
			if errors.Is(err, fs.ErrExist) {
				return err
			}
			return StoreError("ingest", err)
		}
		kept, ok := a.inspect(ingest)
		if ok && (len(kept) == 0 || !a.whole && !(a.ordered && !a.verifies && len(a.Desc.Data) > 0)) {
			a.ingest, a.kept = ingest, kept
			a.Progress.Resumed.Store(kept.Total())
			a.Progress.Begun.Store(true)
			return nil
		}
		err = ingest.Discard()
		_ = ingest.Close() // an error would be the one that Discard returned
		if err != nil {
			return StoreError("discard", err)
		}
	}
	return Errorf(content.ErrStore, "ingest: a partial that was discarded is still there")
}

// inspect notes the kind of the ingest, and returns the ranges that an earlier fetch left. ok
// is false if these cannot be ranges of the blob.
func (a *attempt) inspect(ingest content.Ingest) (kept spans.Set, ok bool) {
	verifying, is := ingest.(content.VerifyingIngest)
	a.verifies = is && verifying.Verifies()
	ordered, is := ingest.(content.OrderedIngest)
	a.ordered = is
	if !is {
		return spans.FromHave(ingest.Have(), a.Desc.Size)
	}
	n := ordered.Offset()
	return kept.Add(spans.Span{Off: 0, End: n}), 0 <= n && n <= a.Desc.Size
}

// canRestart reports whether another attempt, from the first byte on, can succeed
// after err: the bytes came in parts, some of which may be another blob's; or the host
// does not serve parts; or another host can be asked. A host that gave the whole blob
// wrong is not asked again.
func (a *attempt) canRestart(err error) bool {
	if content.ReasonOf(err) == content.ErrRange {
		return !a.whole && (len(a.kept) > 0 || errors.Is(err, errRangeIgnored))
	}
	if !wrongBytes(err) {
		return false
	}
	restart := !a.whole && (len(a.kept) > 0 || a.answers > 1)
	for _, reject := range a.rejects {
		restart = reject() || restart // each body has to be rejected
	}
	return restart
}

// forgetKept drops the bytes that an earlier fetch left, because the server sends the
// whole blob.
func (a *attempt) forgetKept() {
	a.kept = nil
	a.Progress.restart()
}

// fill writes and hashes all of the blob, and compares the digest, unless the ingest
// verifies the blob itself.
func (a *attempt) fill(ctx context.Context) error {
	if len(a.Desc.Data) > 0 {
		off := int64(0)
		if a.ordered {
			off = a.kept.Total()
		}
		return a.writeAt(a.Desc.Data[off:], off)
	}
	var h hash.Hash
	var err error
	if !a.verifies {
		if h, err = a.config.NewHash(a.Desc.Digest); err != nil {
			return err
		}
	}
	if Large(a.Desc.Size) {
		err = a.fillLarge(ctx, h)
	} else {
		err = a.fillSmall(ctx, h)
	}
	if err != nil || a.verifies {
		return err
	}
	if got := verify.Sum(a.Desc.Digest, h); got != a.Desc.Digest {
		return Errorf(content.ErrDigestMismatch, "content has digest %s", got)
	}
	return nil
}

// hash hashes bytes, unless the ingest verifies the blob itself. h is nil then.
func (a *attempt) hash(h hash.Hash, p []byte) {
	if !a.verifies {
		a.hashing.write(h, p)
	}
}

// fillSmall reads, hashes and writes a blob in one goroutine.
func (a *attempt) fillSmall(ctx context.Context, h hash.Hash) error {
	if a.Desc.Size == 0 {
		return nil
	}
	buf, err := a.pool.get(ctx)
	if err != nil {
		return err
	}
	defer a.pool.put(buf)
	for off := int64(0); off < a.Desc.Size; {
		if end := a.kept.After(off); end > off {
			if a.verifies {
				off = end
				continue
			}
			n := int(min(end-off, int64(len(buf))))
			if err := a.readAt(buf[:n], off); err != nil {
				return err
			}
			a.hash(h, buf[:n])
			off += int64(n)
			continue
		}
		off, err = a.fillGap(ctx, h, buf, a.kept.Gap(off, a.Desc.Size))
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// fillGap fetches missing bytes and returns up to where the blob is hashed now.
func (a *attempt) fillGap(ctx context.Context, h hash.Hash, buf []byte, gap spans.Span) (int64, error) {
	body, start, err := a.open(ctx, gap, a.ordered, false)
	if err != nil {
		return gap.Off, err
	}
	defer body.Close()
	if start != gap.Off { // the server sends the whole blob
		if h != nil {
			h.Reset()
		}
		gap = spans.Span{Off: 0, End: a.Desc.Size}
		a.forgetKept()
	}
	for off := gap.Off; off < gap.End; {
		n, rerr := readFull(body, buf[:min(int64(len(buf)), gap.End-off)])
		if n > 0 {
			if err := a.writeAt(buf[:n], off); err != nil {
				return off, err
			}
			a.Progress.Got.Add(int64(n))
			a.hash(h, buf[:n])
			off += int64(n)
		}
		if rerr != nil {
			return off, rerr
		}
	}
	return gap.End, a.readEnd(body, gap.End)
}

// open asks the Source for a part of the blob. partOnly says that an answer with the
// whole blob, from a server that ignores ranges, is an error. added says that other
// connections fetch the blob. The Source is then asked for a number of bytes, so that it
// may refuse the part if the host limits requests.
func (a *attempt) open(ctx context.Context, part spans.Span, partOnly, added bool) (_ io.ReadCloser, start int64, err error) {
	defer a.guard(&err)
	n := part.Len()
	if part.End == a.Desc.Size && !added {
		n = -1
	}
	body, err := a.Open(ctx, part.Off, n)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case body.Start == part.Off || body.Start == 0 && !partOnly:
	case body.Start == 0:
		_ = body.Close()
		return nil, 0, errRangeIgnored
	default:
		_ = body.Close()
		return nil, 0, Errorf(content.ErrRange, "asked for byte %d, got byte %d", part.Off, body.Start)
	}
	a.noteBody(body)
	return &guardedBody{ReadCloser: body, attempt: a}, body.Start, nil
}

// errRangeIgnored says that a server sent the whole blob where only a part is of use.
var errRangeIgnored = &content.Error{Reason: content.ErrRange, Err: errors.New("the server ignores Range")}

// noteBody remembers a body, so that it can be rejected.
func (a *attempt) noteBody(body content.Body) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers++
	if body.Reject == nil {
		return
	}
	if len(a.rejects) == maxBodies {
		a.rejects = append(a.rejects[:1], a.rejects[2:]...) // the first one stays
	}
	a.rejects = append(a.rejects, body.Reject)
}

// A guardedBody turns panics of a Source's body into errors, and answers to Read that an
// io.Reader may not give.
type guardedBody struct {
	io.ReadCloser
	attempt *attempt
	empty   int // reads in a row that have brought nothing
}

// maxEmptyReads is how many reads in a row may bring nothing.
const maxEmptyReads = 100

func (b *guardedBody) Read(p []byte) (n int, err error) {
	defer b.attempt.guard(&err)
	n, err = b.ReadCloser.Read(p)
	if n < 0 || n > len(p) {
		return 0, Errorf(content.ErrNetwork, "the Source's Read returned %d of %d bytes", n, len(p))
	}
	if n > 0 || err != nil {
		b.empty = 0
		return n, err
	}
	if b.empty++; b.empty >= maxEmptyReads {
		return 0, &content.Error{Reason: content.ErrNetwork, Err: io.ErrNoProgress}
	}
	return 0, nil
}

func (b *guardedBody) Close() (err error) {
	defer b.attempt.guard(&err)
	return b.ReadCloser.Close()
}

// readFull fills p. If the body ends before p is full, the error says so.
func readFull(body io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = body.Read(p[n:])
		n += m
	}
	if n == len(p) {
		return n, nil
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = &content.Error{Reason: content.ErrNetwork, Err: io.ErrUnexpectedEOF}
	}
	return n, err
}

// readEnd reads past the last byte of a part, so that the network connection can be
// used again. At the end of the blob, a Source reports there that it has more bytes.
func (a *attempt) readEnd(body io.Reader, end int64) error {
	var one [1]byte
	n, err := body.Read(one[:])
	switch {
	case end < a.Desc.Size:
		return nil
	case n > 0:
		return Errorf(content.ErrSizeMismatch, "more bytes than the descriptor says")
	case content.ReasonOf(err) == content.ErrSizeMismatch:
		return err
	}
	return nil // all bytes have come; the digest decides
}

func (a *attempt) writeAt(p []byte, off int64) (err error) {
	defer a.guard(&err)
	if len(p) == 0 {
		return nil
	}
	n, err := a.ingest.WriteAt(p, off)
	if err == nil && n != len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return ioError(fmt.Sprintf("write at %d", off), err)
	}
	return nil
}

func (a *attempt) readAt(p []byte, off int64) (err error) {
	defer a.guard(&err)
	n, err := a.ingest.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return ioError(fmt.Sprintf("read back at %d", off), err)
}

// CheckDescriptor returns an error if a descriptor cannot be a blob's.
func CheckDescriptor(desc ocispec.Descriptor) error {
	if err := verify.Digest(desc.Digest); err != nil {
		return &content.Error{Reason: content.ErrBadDigest, Err: err}
	}
	if desc.Size < 0 {
		return Errorf(content.ErrBadManifest, "%s has size %d", desc.Digest, desc.Size)
	}
	return nil
}

// Errorf returns an error with a reason and a text formatted as by fmt.Errorf.
func Errorf(reason content.Reason, format string, args ...any) error {
	return &content.Error{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// StoreError returns an error that says that the Store failed and what it was doing. It
// returns an error of an ended context unchanged, because that is the caller's context.
func StoreError(doing string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ioError(doing, err)
}

// ioError is StoreError for calls without a context, where a deadline is the Store's own.
func ioError(doing string, err error) error {
	if content.ReasonOf(err) == content.ErrStore {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return Errorf(content.ErrStore, "%s: %w", doing, err)
}

// noSpace reports whether the Store says that the disk is full or a quota used up.
func noSpace(err error) bool { return errors.Is(ioError("write", err), content.ErrNoSpace) }

// wrongBytes reports whether err says that what came is not the blob: other bytes, or
// more bytes than the blob has.
func wrongBytes(err error) bool {
	switch content.ReasonOf(err) {
	case content.ErrDigestMismatch, content.ErrSizeMismatch:
		return true
	}
	return false
}
