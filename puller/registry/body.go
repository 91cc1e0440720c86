package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// maxSkipped is how many times the size of a blob may be fetched again from a
// host that ignores Range.
const maxSkipped = 4

// maxIdle is how many empty reads in a row are put up with.
const maxIdle = 100

// probeTime is how long the end of an answer is waited for that announced more
// than the blob has, or did not say.
const probeTime = time.Second

// A body is a blob being read. It goes on at its own offset when a connection
// is cut, a token expires or a host is given up.
type body struct {
	client   *Client
	ctx      context.Context // of the call of Blob: it bounds the reading too
	ref      reference.Reference
	cred     credentials.Credential
	desc     ocispec.Descriptor
	hosts    []*endpoint // the first is the one being asked
	release  func()      // of hosts
	off      int64       // where the body began
	pos, end int64       // the next byte, and the first one not wanted
	opening  bool        // nothing was given to the caller yet
	patience patience

	answer  *answer // being read; nil between answers
	skip    int64   // bytes at its start that the caller has already
	left    int64   // bytes it announced and did not bring; -1 if it did not announce
	gained  int64   // bytes it brought that are new
	skipped int64   // by all answers
	idle    int     // reads in a row that gave neither a byte nor an error
	answers int
	from    map[*endpoint]bool // which gave bytes
	fresh   map[*endpoint]bool // which were asked for all of it after a bad range
	failed  []error            // of hosts given up
	rate    rate               // of the answer being read
	pace    pace               // of the host being asked
	err     error              // final
}

// open finds a host that has what is still to come.
func (b *body) open() error {
	for {
		ep := b.hosts[0]
		err := ep.withCredentials(b.ctx, b.ref, b.cred, b.request)
		if err == nil {
			return nil
		}
		if err = b.again(err); err != nil {
			return err
		}
	}
}

// again decides what follows a failed request: another try, the next host, or
// the end, whose error it returns.
func (b *body) again(err error) error {
	if b.ctx.Err() != nil {
		return err
	}
	if len(b.hosts) > 1 {
		b.leave(err)
		return nil
	}
	if err = b.patience.next(b.ctx, err); err != nil {
		return afterMirrors(err, b.failed)
	}
	return nil
}

// leave gives up a mirror. One that has something else under the blob's digest is
// left out of later requests for that digest, too.
func (b *body) leave(err error) {
	b.client.mirrorFailed(b.ctx, b.hosts[0], err)
	if content.KindOf(err) == content.ErrSizeMismatch {
		b.client.rejected.add(b.hosts[0], b.desc.Digest)
	}
	b.failed = append(b.failed, err)
	b.hosts = b.hosts[1:]
	b.patience = b.client.patience()
	b.pace = b.pace.anew(time.Now())
}

// elapse counts the time that has gone by in a call of the caller's.
func (b *body) elapse() { b.pace.elapse(time.Now(), b.patience.ordered, b.client.maxWait()) }

// Read gives the next bytes, from as many answers as it takes.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b.pace.enter(time.Now())
	for b.err == nil {
		if b.pos == b.end {
			b.err = io.EOF
			break
		}
		if b.answer == nil {
			if err := b.open(); err != nil {
				b.err = err
				break
			}
		}
		if n := b.readAnswer(p); n > 0 {
			return n, b.finish()
		}
	}
	return 0, b.err
}

// readAnswer reads once from the answer at hand. It returns how many bytes are
// new to the caller; what went wrong is dealt with.
func (b *body) readAnswer(p []byte) int {
	want := b.end - b.pos
	if b.skip > 0 {
		want = b.skip
	}
	if int64(len(p)) > want {
		p = p[:want]
	}
	a := b.answer
	a.watch.arm()
	began := time.Now()
	n, err := a.Body.Read(p)
	a.watch.rest()
	if b.left > 0 {
		b.left -= min(int64(n), b.left)
	}
	window := 2 * b.client.stall()
	slow := b.rate.add(time.Since(began), n, window)
	b.elapse()
	// A host whose pace is too slow is given up at the second time in a row. Before
	// that only an answer that is itself slow is cut: one that has just begun after a
	// long wait may be what was waited for.
	b.pace.add(0, n, window)
	slow = slow || b.pace.slow > 1
	if n == 0 && err == nil {
		if b.idle++; b.idle > maxIdle {
			err = io.ErrNoProgress
		}
	} else {
		b.idle = 0
	}
	if b.skip > 0 {
		b.skip -= int64(n)
		b.skipped += int64(n)
		n = 0
	}
	b.pos += int64(n)
	if n > 0 {
		b.gained += int64(n)
		b.patience.progress()
	}
	switch {
	case b.pos == b.end:
		// The end is looked at by finish.
	case err != nil:
		b.cut(err)
	case slow:
		b.cut(errSlow)
	}
	return n
}

// enough is how many new bytes make an answer worth its request: to ask on at
// once is then no tighter a loop than to fetch blobs of that size.
const enough = 1 << 20

// cut ends an answer that did not bring all of it, and decides whether to ask on.
func (b *body) cut(err error) {
	a := b.answer
	if b.ctx.Err() != nil {
		b.err = canceled(b.ctx, redact.Secrets(a.host, a.secrets...))
		b.drop()
		return
	}
	// An answer that brought something is followed by another at once, but not
	// in a tight loop.
	pause := time.Duration(0)
	if b.gained < enough {
		pause = ownDelay(1) / 20
	}
	if b.pace.slow > 1 && b.gained > 0 {
		err = errSlow // bytes that come one an answer are slow, too
	}
	var failure error
	other := len(b.hosts) > 1 && err == io.EOF && a.whole()
	switch {
	case errors.Is(err, errSlow):
		failure = a.fail(content.ErrTimeout, err)
	case other:
		failure = a.failf(content.ErrSizeMismatch, "the blob has %d bytes, the host has less", b.desc.Size)
	default:
		failure = failTrip(a.watch.ctx, a.host, fmt.Errorf("after %d of %d bytes: %w", b.pos, b.desc.Size, early(err)), a.secrets)
	}
	gained := b.gained > 0
	b.drop()
	b.client.logger().InfoContext(b.ctx, "blob cut", "digest", string(b.desc.Digest), "host", redact.Text(a.host, a.secrets...), "at", b.pos, "error", failure)
	switch {
	case other:
		b.leave(failure)
	case b.pace.slow > 1, b.skipped/maxSkipped > b.desc.Size:
		if len(b.hosts) > 1 {
			b.leave(failure)
			return
		}
		b.err = afterMirrors(failure, b.failed)
	case gained:
		if err := sleep(b.ctx, pause); err != nil {
			b.err = err
		}
	case len(b.hosts) > 1:
		b.leave(failure)
	default:
		if err := b.patience.next(b.ctx, failure); err != nil {
			b.err = afterMirrors(err, b.failed)
		}
	}
}

// whole reports whether a 200 answer that has been read to its end was all that the
// host has, and not cut: the end was marked by the protocol.
func (a *answer) whole() bool {
	return a.StatusCode == http.StatusOK && (a.ProtoMajor >= 2 || slices.Contains(a.TransferEncoding, "chunked"))
}

func (b *body) drop() {
	if b.answer != nil {
		b.answer.end()
	}
	b.answer, b.gained = nil, 0
}

// finish looks, once all bytes are there, whether the answer has more than the
// blob. It returns the error to give with the last bytes.
func (b *body) finish() error {
	if b.pos < b.end {
		return nil
	}
	defer b.drop()
	a := b.answer
	switch {
	case b.left != 0 && b.end < b.desc.Size:
		return nil // of course there is more
	case b.left == 0 && a.ProtoMajor < 2:
		return nil // nothing can follow, and net/http knows it
	}
	// With HTTP/2 the end of the stream may still be to come. Without reading it
	// the stream would be reset, and servers count those.
	timer := time.AfterFunc(min(probeTime, b.client.stall()), func() { a.watch.cancel(errStalled) })
	defer timer.Stop()
	var more [1]byte
	if n, _ := io.ReadFull(a.Body, more[:]); n > 0 {
		b.err = a.failf(content.ErrSizeMismatch, "the blob has %d bytes, the host sends more", b.desc.Size)
		return b.err
	}
	return nil
}

// Close frees the connection.
func (b *body) Close() error {
	b.drop()
	b.release()
	if b.err == nil || errors.Is(b.err, io.EOF) {
		b.err = fs.ErrClosed
	}
	return nil
}

// Reject implements content.Rejecter.
func (b *body) Reject() bool {
	again := false
	for ep := range b.from {
		switch registry := b.hosts[len(b.hosts)-1]; {
		case ep != registry:
			b.client.rejected.add(ep, b.desc.Digest)
			again = true // the hosts after it are left
		case b.answers > 1 || b.off > 0 || b.end < b.desc.Size:
			news := b.client.rejected.add(ep, b.desc.Digest)
			again = again || news
		}
	}
	return again
}
