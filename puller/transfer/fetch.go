package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// pipeFrom is the size from which a blob is hashed beside its I/O. For smaller
// ones handing buffers over costs more than it gains.
const pipeFrom = 2 << 20

// maxFresh is how often a blob is begun again from its first byte at most,
// whatever its Source says of other hosts: more often than a registry has mirrors.
const maxFresh = 64

// foreign says of a layer that the registry does not have, and that its descriptor
// places elsewhere, why it was not fetched from there.
func foreign(desc ocispec.Descriptor, err error) string {
	if len(desc.URLs) == 0 || !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return "; the manifest lists other addresses for it (urls), which are not followed"
}

// fetch brings one blob into the store.
func (r *Runtime) fetch(f *flight) error {
	if err := checkDescriptor(f.desc); err != nil {
		return err
	}
	whole := false
	for fresh := 0; ; fresh++ {
		t := &try{rt: r, f: f, desc: f.desc, whole: whole}
		err := t.once(f.ctx)
		if err == nil {
			return nil
		}
		r.log.Debug("blob not fetched", "digest", f.desc.Digest, "size", f.desc.Size, "error", err)
		again := t.panicked.Load() == nil && t.again(err, whole)
		if !again || fresh == maxFresh || f.ctx.Err() != nil {
			return fmt.Errorf("blob %s: %w%s", f.desc.Digest, err, foreign(f.desc, err))
		}
		f.resumed.Store(0)
		f.got.Store(0)
		f.restarts.Add(1)
		whole = true
	}
}

func checkDescriptor(desc ocispec.Descriptor) error {
	if err := verify.Digest(desc.Digest); err != nil {
		return &content.Error{Kind: content.ErrBadDigest, Err: err}
	}
	if desc.Size < 0 {
		return failf(content.ErrBadManifest, "%s has size %d", desc.Digest, desc.Size)
	}
	return nil
}

// A try is one way of a blob from its first missing byte to the store.
type try struct {
	rt    *Runtime
	f     *flight
	desc  ocispec.Descriptor
	whole bool // one answer from the first byte on: what was kept before turned out wrong

	ingest content.Ingest
	kept   spans.Set
	config []byte // see keepConfig

	panicked atomic.Pointer[panics.Error] // by the Source or the Store; see guard

	mu      sync.Mutex
	answers int // bodies that were opened
	bodies  []content.Rejecter
}

// guard is deferred where the Source or the Store is called in one of a try's
// goroutines: it makes an error of a panic, which ends the try.
func (t *try) guard(err *error) {
	if v := recover(); v != nil {
		panicked := panics.New(v)
		t.panicked.CompareAndSwap(nil, panicked)
		*err = panicked
	}
}

// once makes the try. However it ends, the ingest is over.
func (t *try) once(ctx context.Context) error {
	err := t.begin(ctx)
	if errors.Is(err, fs.ErrExist) {
		t.f.present = true
		return nil
	}
	if err != nil {
		return err
	}
	defer t.ingest.Close()
	err = t.fill(ctx)
	if panicked := t.panicked.Load(); panicked != nil {
		err = panicked // also where other connections brought the rest
	}
	if err != nil {
		if spoilt(err) {
			// What cannot become the blob, or takes the room that is missing, must go.
			if derr := t.ingest.Discard(); derr != nil {
				return errors.Join(err, storeError("discard", derr))
			}
		}
		return err
	}
	t.f.config = t.config
	t.rt.flights.fetched(t.f)
	if err := t.ingest.Commit(ctx); err != nil {
		return storeError("commit", err)
	}
	return nil
}

// begin opens the ingest and looks what of the blob is there.
func (t *try) begin(ctx context.Context) error {
	for range 2 {
		ingest, err := t.rt.store.Ingest(ctx, t.desc)
		if err != nil {
			if errors.Is(err, fs.ErrExist) {
				return err
			}
			return storeError("ingest", err)
		}
		kept, ok := spans.FromHave(ingest.Have(), t.desc.Size)
		if ok && (!t.whole || len(kept) == 0) {
			t.ingest, t.kept = ingest, kept
			t.f.resumed.Store(kept.Total())
			t.f.begun.Store(true)
			return nil
		}
		err = ingest.Discard()
		_ = ingest.Close() // Discard has said what there is to say
		if err != nil {
			return storeError("discard", err)
		}
	}
	return failf(content.ErrStore, "ingest: a partial that was thrown away is still there")
}

// notTheBlob reports whether err says that what came is not the blob: other bytes,
// or more than it has.
func notTheBlob(err error) bool {
	switch content.KindOf(err) {
	case content.ErrDigestMismatch, content.ErrSizeMismatch:
		return true
	}
	return false
}

// spoilt reports whether a partial is of no use after err.
func spoilt(err error) bool { return notTheBlob(err) || full(err) }

// again reports whether another try, from the first byte on, can succeed: the
// bytes came in parts, some of which may be another blob's, the host has no
// parts, or another host can be asked. A host's own whole answer is not asked for again.
func (t *try) again(err error, fresh bool) bool {
	if content.KindOf(err) == content.ErrRange {
		return !fresh && (len(t.kept) > 0 || errors.Is(err, errNoRanges))
	}
	if !notTheBlob(err) {
		return false
	}
	again := !fresh && (len(t.kept) > 0 || t.answers > 1)
	for _, b := range t.bodies {
		again = b.Reject() || again
	}
	return again
}

// errNoRanges says that a server gave the whole blob where a part was asked for
// and the whole is of no use.
var errNoRanges = &content.Error{Kind: content.ErrRange, Err: errors.New("the server ignores Range")}

// fill writes and hashes all of the blob, and compares the digest.
func (t *try) fill(ctx context.Context) error {
	if len(t.desc.Data) > 0 { // verified before it became a flight
		return t.writeAt(t.desc.Data, 0)
	}
	h, err := t.rt.newHash(t.desc.Digest)
	if err != nil {
		return err
	}
	if t.desc.Size < pipeFrom {
		err = t.inline(ctx, h)
	} else {
		err = t.pipe(ctx, h)
	}
	if err != nil {
		return err
	}
	if got := verify.Sum(t.desc.Digest, h); got != t.desc.Digest {
		return failf(content.ErrDigestMismatch, "content has digest %s", got)
	}
	return nil
}

func (t *try) writeAt(p []byte, off int64) (err error) {
	defer t.guard(&err)
	if len(p) == 0 {
		return nil
	}
	if _, err := t.ingest.WriteAt(p, off); err != nil {
		return ioError(fmt.Sprintf("write at %d", off), err)
	}
	return nil
}

func (t *try) readAt(p []byte, off int64) (err error) {
	defer t.guard(&err)
	n, err := t.ingest.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return ioError(fmt.Sprintf("read back at %d", off), err)
}

// readFull fills p unless the body ends before; err is nil exactly if p is full.
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
		err = &content.Error{Kind: content.ErrNetwork, Err: io.ErrUnexpectedEOF}
	}
	return n, err
}

// atEnd reads past the last byte of a part, which lets the connection be used
// again. At the end of the blob it is where a Source says that there were more.
func (t *try) atEnd(body io.Reader, end int64) error {
	var one [1]byte
	n, err := body.Read(one[:])
	switch {
	case end < t.desc.Size:
		return nil
	case n > 0:
		return failf(content.ErrSizeMismatch, "more bytes than the descriptor says")
	case content.KindOf(err) == content.ErrSizeMismatch:
		return err
	}
	return nil // all bytes are there; the digest decides
}
