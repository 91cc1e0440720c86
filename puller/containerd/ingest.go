package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"google.golang.org/grpc/codes"
)

// maxMessage is the most bytes of a blob in one message. containerd refuses messages of
// more than 16 MiB.
const maxMessage = 1 << 20

// The first and the longest wait before Ingest asks again, while another client of containerd
// writes the blob.
const (
	firstPoll = 20 * time.Millisecond
	lastPoll  = 500 * time.Millisecond
)

// refOf returns the name of the ingest of a blob. containerd's own clients give the ingest the
// same name. So two clients do not fetch a blob at the same time, and a client goes on with
// the bytes that another client has left.
func refOf(desc ocispec.Descriptor) string {
	kind := "unknown"
	switch {
	case mediatype.IsManifest(desc.MediaType):
		kind = "manifest"
	case mediatype.IsIndex(desc.MediaType):
		kind = "index"
	case mediatype.IsLayer(desc.MediaType):
		kind = "layer"
	case mediatype.IsConfig(desc.MediaType):
		kind = "config"
	}
	return kind + "-" + string(desc.Digest)
}

// verifiesItself reports whether containerd of any version compares the digest d when a blob is
// committed. Before version 2.1, containerd compares only SHA-256.
func verifiesItself(d digest.Digest) bool { return d.Algorithm() == digest.SHA256 }

// Kept returns how many bytes of desc's content an earlier ingest left, so that Ingest goes on
// with them. It is 0 if the digest is not a SHA-256.
func (s *Store) Kept(ctx context.Context, desc ocispec.Descriptor) (int64, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil || !verifiesItself(desc.Digest) {
		return 0, err
	}
	n, err := s.client.kept(ctx, refOf(desc))
	if n > desc.Size {
		n = 0 // these cannot be bytes of the content
	}
	return n, err
}

// Ingest starts to store desc's content. It returns a content.OrderedIngest, because containerd
// can only append. The ingest is also a content.VerifyingIngest, whose Verifies returns true if
// the digest is a SHA-256. The ingest ends with ctx, if it has not ended before.
//
// If containerd has bytes of an earlier ingest, it hashes them first. During this time,
// containerd does not change its metadata in any namespace. So a pull that goes on within a blob
// of many GiB delays the start of containers. If another namespace of containerd has the blob,
// the ingest has all its bytes from the start.
//
// Ingest waits while another goroutine, process or client of containerd writes the same
// content, and while containerd itself pulls it.
func (s *Store) Ingest(ctx context.Context, desc ocispec.Descriptor) (content.Ingest, error) {
	if err := ocilayout.CheckDescriptor(desc); err != nil {
		return nil, err
	}
	unlock, err := s.ingests.Lock(ctx, string(desc.Digest))
	if err != nil {
		return nil, err
	}
	in := &ingest{store: s, caller: ctx, desc: desc, ref: refOf(desc), unlock: unlock, verifies: verifiesItself(desc.Digest)}
	if err := in.begin(ctx); err != nil {
		unlock()
		return nil, err
	}
	return in, nil
}

// An ingest is one blob while it is written: a stream to containerd, which holds a lock as
// long as the stream is open.
type ingest struct {
	store  *Store
	caller context.Context // of Ingest
	desc   ocispec.Descriptor
	ref    string
	lease  string // ID of the lease under which the stream runs
	unlock func()
	stream contentapi.Content_WriteClient
	cancel context.CancelCauseFunc // ends the stream
	found  int64                   // bytes that an earlier ingest left

	verifies bool // containerd compares the digest

	mu     sync.Mutex
	offset int64
	broken error // why nothing can be written any more
	ended  bool
}

var (
	_ content.OrderedIngest   = (*ingest)(nil)
	_ content.VerifyingIngest = (*ingest)(nil)
)

// begin opens the stream. It waits while another client has the ingest open.
func (in *ingest) begin(ctx context.Context) error {
	discarded := false
	for wait := firstPoll; ; wait = min(2*wait, lastPoll) {
		lease, fresh, err := in.store.holder.open(ctx, in.ref)
		if err != nil {
			return err
		}
		in.lease = lease
		err = in.open(ctx)
		if err != nil && fresh {
			in.store.holder.removed(in.ref)
		}
		switch {
		case err == nil && in.found > 0 && !in.verifies && !discarded:
			// The bytes are of no use, because the caller would have to verify them and
			// cannot read them.
			if err := in.discard(); err != nil {
				return err
			}
			discarded = true
			continue
		case err == nil && in.found > 0:
			// Bytes that are there after a Discard are those of a blob that containerd has
			// verified for another namespace.
			in.verifies = true
			return nil
		case err == nil:
			return nil
		case is(err, codes.AlreadyExists):
			return in.exists(ctx)
		case !locked(err):
			return fail(ctx, err, "store blob %s", in.desc.Digest)
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// exists returns the error of Ingest for a blob that containerd already has.
func (in *ingest) exists(ctx context.Context) error {
	info, ok, err := in.store.client.info(ctx, in.desc.Digest)
	if err != nil {
		return err
	}
	if ok && info.GetSize() != in.desc.Size {
		return &content.Error{Reason: content.ErrSizeMismatch, Err: fmt.Errorf("containerd: blob %s has %d bytes there, not %d", in.desc.Digest, info.GetSize(), in.desc.Size)}
	}
	return fmt.Errorf("containerd: blob %s is stored: %w", in.desc.Digest, fs.ErrExist)
}

// open opens the stream, and does not wait for another client. Its error is an error of gRPC.
func (in *ingest) open(ctx context.Context) (err error) {
	// The stream goes on after the end of ctx, so that it can end in an orderly way.
	stream, cancel := context.WithCancelCause(context.WithoutCancel(in.store.client.header(ctx, in.lease)))
	in.cancel = cancel
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	if in.stream, err = in.store.client.content.Write(stream, options...); err != nil {
		return err
	}
	// The size is not sent before the commit: containerd refuses to go on with bytes that
	// came with another size, and one of the two sizes is wrong.
	resp, err := in.send(ctx, &contentapi.WriteContentRequest{
		Action: contentapi.WriteAction_STAT, Ref: in.ref, Expected: string(in.desc.Digest),
	}, hashTime)
	in.found, in.offset = resp.GetOffset(), resp.GetOffset()
	return err
}

// send sends a message and returns the answer to it. If the answer does not come within
// limit, or before the end of ctx, the stream ends.
func (in *ingest) send(ctx context.Context, req *contentapi.WriteContentRequest, limit time.Duration) (*contentapi.WriteContentResponse, error) {
	defer context.AfterFunc(ctx, func() { in.cancel(context.Cause(ctx)) })()
	defer time.AfterFunc(limit, func() { in.cancel(errTooLong) }).Stop()
	if err := in.stream.Send(req); err != nil && err != io.EOF {
		return nil, err
	}
	return in.stream.Recv() // after an EOF of Send, Recv returns the error
}

// Offset returns how many bytes containerd has.
func (in *ingest) Offset() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.offset
}

// Verifies implements content.VerifyingIngest.
func (in *ingest) Verifies() bool { return in.verifies }

// Have yields the range of the bytes that an earlier ingest left, which starts at 0.
func (in *ingest) Have() iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		if in.found > 0 {
			yield(0, in.found)
		}
	}
}

// ReadAt fails, because containerd lets a client read only content that is committed.
func (in *ingest) ReadAt([]byte, int64) (int, error) {
	return 0, &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("containerd: read the bytes that have arrived of blob %s: %w", in.desc.Digest, errors.ErrUnsupported)}
}

// WriteAt appends p. off must be the offset.
func (in *ingest) WriteAt(p []byte, off int64) (n int, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.ended:
		return 0, in.errEnded()
	case in.broken != nil:
		return 0, in.broken
	case in.caller.Err() != nil:
		return 0, context.Cause(in.caller)
	case off != in.offset:
		return 0, &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("containerd: blob %s: byte %d is next, not byte %d", in.desc.Digest, in.offset, off)}
	case int64(len(p)) > in.desc.Size-off:
		return 0, &content.Error{Reason: content.ErrSizeMismatch, Err: fmt.Errorf("containerd: blob %s: %d bytes at offset %d go beyond its size of %d", in.desc.Digest, len(p), off, in.desc.Size)}
	}
	for len(p) > 0 {
		part := p[:min(len(p), maxMessage)]
		resp, err := in.send(in.caller, &contentapi.WriteContentRequest{Action: contentapi.WriteAction_WRITE, Offset: in.offset, Data: part}, callTime)
		if err == nil && resp.GetOffset() != in.offset+int64(len(part)) {
			err = fmt.Errorf("it says that it has %d bytes, not %d", resp.GetOffset(), in.offset+int64(len(part)))
		}
		if err != nil {
			in.broken = fail(in.caller, err, "write blob %s", in.desc.Digest)
			return n, in.broken
		}
		in.offset += int64(len(part))
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

func (in *ingest) errEnded() error {
	return &content.Error{Reason: content.ErrStore, Err: fmt.Errorf("containerd: the ingest of blob %s is over: %w", in.desc.Digest, fs.ErrClosed)}
}

// Commit makes the blob visible. containerd compares the size and the digest first.
func (in *ingest) Commit(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.ended:
		return in.errEnded()
	case in.broken != nil:
		return in.broken
	}
	if in.offset != in.desc.Size {
		// containerd takes a size of 0 for one that is not known.
		return in.refuse(&content.Error{Reason: content.ErrSizeMismatch, Err: fmt.Errorf("containerd: blob %s: %d of %d bytes were written", in.desc.Digest, in.offset, in.desc.Size)})
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := in.send(ctx, &contentapi.WriteContentRequest{
		Action: contentapi.WriteAction_COMMIT, Offset: in.offset, Total: in.desc.Size, Expected: string(in.desc.Digest),
	}, hashTime)
	switch {
	case err == nil:
		in.end()
		defer in.unlock()
		return in.store.holder.committed(ctx, in.lease, in.ref, in.desc.Digest)
	case is(err, codes.AlreadyExists): // another client has committed the blob under another name and another lease
		in.end()
		defer in.unlock()
		return in.store.holder.committed(ctx, "", in.ref, in.desc.Digest)
	case is(err, codes.FailedPrecondition):
		refusal := answer(err, "commit blob %s", in.desc.Digest)
		if in.verifies {
			return in.refuse(&content.Error{Reason: content.ErrDigestMismatch, Err: refusal})
		}
		refusal.text += "; before version 2.1, containerd stores only blobs with a digest of sha256"
		return in.refuse(&content.Error{Reason: content.ErrStore, Err: refusal})
	}
	in.broken = fail(ctx, err, "commit blob %s", in.desc.Digest)
	return in.broken
}

// refuse discards all bytes and returns err. The caller holds mu.
func (in *ingest) refuse(err error) error {
	if derr := in.discardAndUnlock(); derr != nil {
		return errors.Join(err, derr)
	}
	return err
}

// Discard removes all bytes, including those that an earlier ingest left.
func (in *ingest) Discard() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return in.errEnded()
	}
	return in.discardAndUnlock()
}

func (in *ingest) discardAndUnlock() error {
	defer in.unlock()
	in.ended = true
	return in.discard()
}

// discard removes the bytes and then ends the stream. While the stream is open, the bytes
// cannot be those of another client.
func (in *ingest) discard() error {
	err := in.store.client.abort(in.caller, in.ref)
	in.hangUp()
	if err == nil {
		in.store.holder.removed(in.ref)
	}
	return err
}

// Close ends the ingest. containerd keeps the bytes for a later ingest.
func (in *ingest) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ended {
		return nil
	}
	if in.offset == 0 && in.broken == nil {
		return in.discardAndUnlock() // an ingest without bytes is of no use
	}
	in.end()
	in.unlock()
	return nil
}

// end ends the stream. The caller holds mu.
func (in *ingest) end() {
	in.ended = true
	in.hangUp()
}

// hangUp ends the stream, and waits until containerd has synced the bytes and released its
// lock.
func (in *ingest) hangUp() {
	defer time.AfterFunc(callTime, func() { in.cancel(errTooLong) }).Stop()
	defer in.cancel(nil)
	if in.stream.CloseSend() != nil {
		return
	}
	for {
		if _, err := in.stream.Recv(); err != nil {
			return
		}
	}
}
