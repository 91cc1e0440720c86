package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

// Blob opens n bytes of a blob from off (n < 0: to the end); see content.Source. A Read
// of the body with a large buffer reads from the connection without another copy. ctx
// bounds Blob and all reads of the body. One goroutine at a time may use a body, and it
// must not be read after Close.
//
// If the host has refused a request by 429 or 503 within the last minute, a call with
// n >= 0 fails at once while another body of the blob is open there.
//
// The errors of Blob and of the body are like the errors of Manifest.
func (c *Client) Blob(ctx context.Context, repo content.Repo, desc ocispec.Descriptor, off, n int64) (content.Body, error) {
	if err := checkRef(repo.Ref); err != nil {
		return content.Body{}, err
	}
	if err := verify.Digest(desc.Digest); err != nil {
		return content.Body{}, fail(content.ErrBadDigest, "", err)
	}
	if desc.Size < 0 || off < 0 || off > desc.Size {
		return content.Body{}, failf(content.ErrSizeMismatch, "", "byte %d of a blob of %d bytes", off, desc.Size)
	}
	end := desc.Size
	if n >= 0 && n < desc.Size-off {
		end = off + n
	}
	if off == end {
		return content.Body{ReadCloser: http.NoBody, Start: off}, nil // no host was asked
	}
	w, err := newHostWalk(ctx, c, repo, CanPull, desc.Digest)
	if err != nil {
		return content.Body{}, err
	}
	b := &body{walk: w, ctx: ctx, desc: desc, off: off, pos: off, end: end, opening: true}
	defer func() {
		if b.opening { // after an error or a panic the caller has no body to close
			b.uncount()
			w.release()
		}
	}()
	if n >= 0 {
		w.patience.yields = b.yields
	}
	b.pace.enter(time.Now())
	if err := b.open(); err != nil {
		return content.Body{}, err
	}
	b.elapse()
	b.opening = false
	return content.Body{ReadCloser: b, Start: b.off, Reject: b.reject, Provenance: b.provenance}, nil
}

// request asks an endpoint for the rest of the blob. If the answer can be used, the
// body is read from it.
func (b *body) request(ctx context.Context, ep *endpoint, by login) error {
	all := b.pos == 0 && b.end == b.desc.Size
	a, err := b.get(ctx, ep, by, !all)
	if err != nil {
		return err
	}
	if !all && a.StatusCode != http.StatusOK {
		var length int64
		if length, err = b.checkRange(a); err == nil {
			return b.take(ep, a, b.pos, length)
		}
		// The host may have something else under the digest, so it is asked once for
		// the whole blob.
		a.end()
		if b.whole[ep] {
			return err
		}
		if b.whole == nil {
			b.whole = map[*endpoint]bool{}
		}
		b.whole[ep] = true
		if a, err = b.get(ctx, ep, by, false); err != nil {
			return err
		}
	}
	if a.StatusCode != http.StatusOK {
		a.end()
		reason := content.ErrStatus
		if a.StatusCode == http.StatusPartialContent || a.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			reason = content.ErrRange
		}
		return a.unexpected(reason)
	}
	return b.take(ep, a, 0, b.desc.Size)
}

// bulkSize is the least number of bytes for which an answer gets a connection of its
// own.
const bulkSize = 1 << 20

// get makes one GET of the whole blob or, if ranged is true, of the missing range. If the
// host has redirected a request for the blob before, the GET goes to the redirect's
// target. If the target does not serve the bytes, a GET at the host follows.
func (b *body) get(ctx context.Context, ep *endpoint, by login, ranged bool) (*answer, error) {
	r := request{method: http.MethodGet, repository: b.walk.repo.Ref.Repository(), kind: "blobs", name: string(b.desc.Digest), login: by, header: http.Header{}, bulk: b.end-b.pos >= bulkSize}
	if ranged {
		// The range always has an end, because some registries answer 416 to every
		// range without an end.
		r.header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.pos, b.end-1))
	}
	targets := &ep.client.targets
	b.forget = func() { targets.forget(ep, r) }
	serves := func(a *answer) bool {
		if a.StatusCode == http.StatusOK {
			return a.ContentLength == b.desc.Size
		}
		_, err := b.checkRange(a)
		return ranged && err == nil
	}
	a, err := targets.ask(ctx, ep, r, serves)
	if a == nil && err == nil {
		if a, err = ep.ask(ctx, r); err == nil && a.StatusCode/100 == 2 {
			ep.redirects.Store(a.left)
			if serves(a) {
				targets.keep(ep, r, a)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if err := a.checkEncoding(); err != nil {
		b.forget()
		a.end()
		return nil, err
	}
	return a, nil
}

// checkRange checks an answer to a request with Range whose status is not 200. It returns
// how many bytes the answer announces.
func (b *body) checkRange(a *answer) (int64, error) {
	switch a.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, a.failf(content.ErrSizeMismatch, "the blob has %d bytes, but the host has none from byte %d on (Content-Range %s)",
			b.desc.Size, b.pos, quote(a.Header.Get("Content-Range"), 60, a.secrets))
	case http.StatusPartialContent:
	default:
		return 0, a.unexpected(content.ErrStatus)
	}
	header := strings.TrimSpace(a.Header.Get("Content-Range"))
	got, err := parseContentRange(header)
	if err != nil {
		_, err = parseContentRange(redact.Secrets(header, a.secrets...)) // the same error without secrets
		return 0, a.fail(content.ErrRange, err)
	}
	if !got.fits(b.pos, b.desc.Size) {
		return 0, a.failf(content.ErrRange, "Content-Range %.60q in answer to a request for byte %d of %d", header, b.pos, b.desc.Size)
	}
	return got.last - got.first + 1, nil
}

// take sets a as the answer from which the body is read. The answer begins at byte start
// of the blob and should have length bytes. If the host announces another number, it may
// have something else than the blob. The answer of a registry is read nevertheless,
// because many servers announce a wrong number and only the bytes count. A mirror is
// given up at once, before its bytes are mixed with those of an earlier answer.
func (b *body) take(ep *endpoint, a *answer, start, length int64) error {
	if b.walk.mirror() && a.ContentLength >= 0 && a.ContentLength != length {
		defer a.end()
		return a.failf(content.ErrSizeMismatch, "the blob has %d bytes from byte %d on, the host announces %d", length, start, a.ContentLength)
	}
	if b.opening {
		// The caller has no bytes yet, so the body can begin where the answer begins.
		b.off, b.pos = start, start
	}
	b.answer, b.skip = a, b.pos-start
	b.left = a.ContentLength // -1 if the answer does not say
	b.answers++
	if b.from == nil {
		b.from = map[*endpoint]bool{}
	}
	b.from[ep] = true
	from := ep.provenance(a)
	b.ofMirror.Store(b.ofMirror.Load() || !from.Registry)
	b.opened.Store(b.opened.Load() || !from.Anonymous)
	if key := b.key(ep); key != b.counted {
		b.uncount()
		b.walk.client.bodies.add(key, 1)
		b.counted = key
	}
	return nil
}

// key returns the key under which the body counts as open at a host.
func (b *body) key(ep *endpoint) targetKey {
	by := login{cred: b.walk.repo.Cred}
	if ep.mirror {
		by.ring, _ = b.walk.ring(ep)
	}
	return targetKeyOf(ep, request{repository: b.walk.repo.Ref.Repository(), name: string(b.desc.Digest), login: by})
}

// uncount removes the body from the count of open bodies.
func (b *body) uncount() {
	if b.counted != (targetKey{}) {
		b.walk.client.bodies.add(b.counted, -1)
		b.counted = targetKey{}
	}
}

// yields reports whether another body of the blob is open at the host being asked.
func (b *body) yields() bool {
	key := b.key(b.walk.host())
	counted := b.counted == key
	if !b.walk.client.bodies.yield(key, counted) {
		return false
	}
	if counted {
		b.counted = targetKey{}
	}
	return true
}

// leftOut reports whether a part is not requested from the host being asked, because that
// host limits requests and another body of the blob is open there. It records the error.
func (b *body) leftOut(host int) bool {
	ep := b.walk.hosts[host]
	err := ep.limits.lateError(ep.base.Host)
	if err == nil || !b.opening || b.walk.patience.yields == nil || !b.yields() {
		return false
	}
	b.walk.failed[host] = err
	return true
}

// maxSkipped bounds the bytes that are fetched again from hosts that ignore Range, in
// multiples of the size of the blob.
const maxSkipped = 4

// maxEmpty is how many empty reads in a row are allowed.
const maxEmpty = 100

// probeTime is how long the Client waits for the end of an answer that announced more
// bytes than the blob has, or that did not announce a number.
const probeTime = time.Second

// A body is a blob being read. When a connection is cut, a token expires or a host is
// given up, it continues at its own offset.
type body struct {
	walk     *hostWalk
	ctx      context.Context // of the call of Blob; it bounds the reads, too
	desc     ocispec.Descriptor
	off      int64     // where the body began
	pos, end int64     // the next byte to read, and the first byte after the requested part
	opening  bool      // Blob has not returned yet
	counted  targetKey // the key under which the body counts in Client.bodies; zero if it does not
	forget   func()    // removes the redirect's target that the last request may have used

	answer  *answer // being read; nil between answers
	skip    int64   // bytes at the start of the answer that the caller has already
	left    int64   // bytes that the answer announced and has not brought yet; -1 if it announced no number
	gained  int64   // new bytes that the answer brought
	skipped int64   // bytes of all answers that the caller had already
	empty   int     // reads in a row that returned neither a byte nor an error
	answers int
	from    map[*endpoint]bool // hosts that sent bytes
	whole   map[*endpoint]bool // hosts that were asked for the whole blob after a bad range
	pace    pace               // of the host being asked
	err     error              // final

	ofMirror atomic.Bool // an answer came from a mirror
	opened   atomic.Bool // a request that was answered was not anonymous
}

// provenance is content.Body.Provenance.
func (b *body) provenance() content.Provenance {
	return content.Provenance{Registry: !b.ofMirror.Load(), Anonymous: !b.opened.Load()}
}

// open finds a host that sends the rest of the blob.
func (b *body) open() error {
	at := b.walk.at
	err := b.walk.ask(b.ctx, b.leftOut, b.request)
	if b.walk.at != at {
		b.pace = b.pace.nextHost(b.walk.since)
	}
	return err
}

// leave gives up the mirror being asked because of err, and makes the next host the one
// being asked.
func (b *body) leave(err error) {
	_ = b.walk.wait(b.ctx, err) // this records err; a mirror is not waited for
	b.walk.next()
	b.pace = b.pace.nextHost(b.walk.since)
}

// elapse counts the time that has passed within a call of Blob or Read.
func (b *body) elapse() {
	b.pace.elapse(time.Now(), b.walk.patience.ordered, b.walk.client.cfg.MaxWait)
}

// Read reads the next bytes of the blob, from several answers if necessary.
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

// readAnswer reads once from the answer and returns how many of the bytes are new to the
// caller. If the answer fails, readAnswer calls cut.
func (b *body) readAnswer(p []byte) int {
	want := b.end - b.pos
	if b.skip > 0 {
		want = b.skip
	}
	if int64(len(p)) > want {
		p = p[:want]
	}
	n, err := b.answer.Read(p)
	if b.left > 0 {
		b.left -= min(int64(n), b.left)
	}
	b.elapse()
	// A host that is too slow twice in a row is given up. Before that, only an answer
	// that is slow in itself is cut: an answer that has just started after a long wait
	// may bring the rest quickly.
	b.pace.add(0, n, b.answer.window())
	if b.pace.slow > 1 && err == nil {
		err = errSlow
	}
	if n == 0 && err == nil {
		if b.empty++; b.empty > maxEmpty {
			err = io.ErrNoProgress
		}
	} else {
		b.empty = 0
	}
	if b.skip > 0 {
		b.skip -= int64(n)
		b.skipped += int64(n)
		n = 0
	}
	b.pos += int64(n)
	if n > 0 {
		b.gained += int64(n)
		b.walk.patience.progress()
	}
	if err != nil && b.pos < b.end { // the end of the blob is checked by finish
		b.cut(err)
	}
	return n
}

// noDelayAfter is how many new bytes an answer must have brought for the next request to
// follow without a delay. Such requests are no more frequent than requests for blobs of
// that size.
const noDelayAfter = 1 << 20

// cut ends an answer that did not bring all of the rest, and decides what follows:
// another request to the same host, the next host, or an error.
func (b *body) cut(err error) {
	a := b.answer
	if b.ctx.Err() != nil {
		b.err = canceled(b.ctx, redact.Secrets(a.host, a.secrets...))
		b.drop()
		return
	}
	// After an answer that brought new bytes the next request follows soon, but not in
	// a tight loop.
	pause := time.Duration(0)
	if b.gained < noDelayAfter {
		pause = ownDelay(1) / 20
	}
	if b.pace.slow > 1 && b.gained > 0 {
		err = errSlow // a server that sends a byte with each answer is slow, too
	}
	var failure error
	other := b.walk.mirror() && err == io.EOF && a.whole()
	switch {
	case errors.Is(err, errSlow):
		failure = a.fail(content.ErrTimeout, err)
	case other:
		failure = a.failf(content.ErrSizeMismatch, "the blob has %d bytes, the host has fewer", b.desc.Size)
	default:
		failure = failTrip(a.stall.ctx, a.host, fmt.Errorf("after %d of %d bytes: %w", b.pos, b.desc.Size, tooEarly(err)), a.secrets)
	}
	gained := b.gained > 0
	if b.gained < noDelayAfter || errors.Is(err, errSlow) {
		b.forget() // the host may redirect to a better server
	}
	b.drop()
	b.walk.client.cfg.Logger.InfoContext(b.ctx, "blob cut", "digest", string(b.desc.Digest), "host", redact.Text(a.host, a.secrets...), "at", b.pos, "error", failure)
	switch {
	case other, b.walk.host().found:
		b.leave(failure)
	case b.pace.slow > 1, b.skipped/maxSkipped > b.desc.Size:
		if b.walk.mirror() {
			b.leave(failure)
			return
		}
		b.err = b.walk.afterMirrors(failure)
	case gained:
		b.err = sleep(b.ctx, pause)
	case b.walk.mirror():
		b.leave(failure)
	default:
		if err := b.walk.wait(b.ctx, failure); err != nil {
			b.err = b.walk.afterMirrors(err)
		}
	}
}

func (b *body) drop() {
	if b.answer != nil {
		b.answer.end()
	}
	b.answer, b.gained = nil, 0
}

// finish checks, when all bytes of the blob have come, whether the answer has more. It
// returns the error that Read returns together with the last bytes.
func (b *body) finish() error {
	if b.pos < b.end {
		return nil
	}
	defer b.drop()
	a := b.answer
	switch {
	case b.left != 0 && b.end < b.desc.Size:
		return nil // a part was asked for, so there is more
	case b.left == 0 && a.ProtoMajor < 2:
		return nil // nothing can follow, because HTTP/1.1 ends an answer at its announced length
	}
	// With HTTP/2 the end of the stream may not have arrived yet. If the end is not read,
	// the stream is reset, and servers count resets.
	timer := time.AfterFunc(min(probeTime, a.stall.limit), func() { a.stall.cancel(errStalled) })
	defer timer.Stop()
	var more [1]byte
	if n, _ := io.ReadFull(a.Body, more[:]); n > 0 {
		b.err = a.failf(content.ErrSizeMismatch, "the blob has %d bytes, the host sends more", b.desc.Size)
		return b.err
	}
	return nil
}

// Close frees the connection. Reads after Close fail with fs.ErrClosed.
func (b *body) Close() error {
	b.drop()
	b.uncount()
	b.walk.release()
	if b.err == nil || errors.Is(b.err, io.EOF) {
		b.err = fs.ErrClosed
	}
	return nil
}

// reject is content.Body.Reject: it remembers that the hosts sent wrong bytes, and
// reports whether another try may get other bytes.
func (b *body) reject() bool {
	again := false
	w := b.walk
	b.forget()
	for ep := range b.from {
		switch registry := w.hosts[len(w.hosts)-1]; {
		case ep.found:
			ep.sentWrong(b.desc.Digest, len(b.from) == 1 && b.off == 0 && b.end == b.desc.Size)
			again = true
		case ep != registry:
			ep.reject(b.desc.Digest)
			again = true // the next try asks the hosts after the mirror
		case b.answers > 1 || b.off > 0 || b.end < b.desc.Size:
			isNew := ep.reject(b.desc.Digest)
			again = again || isNew
		}
	}
	return again
}

// A byteRange is the range that a 206 answer announces: the bytes first to last of
// total. total is unknownTotal if the server wrote "*".
type byteRange struct{ first, last, total int64 }

const unknownTotal = -1

// fits reports whether an answer with the range r continues at byte off of a blob of
// size bytes. If the total is unknown, the range must end within the blob. The digest
// decides later whether the bytes are those of the blob.
func (r byteRange) fits(off, size int64) bool {
	return r.first == off && r.last < size && (r.total == size || r.total == unknownTotal)
}

// parseContentRange reads a Content-Range header (RFC 9110, section 14.4).
func parseContentRange(v string) (byteRange, error) {
	if v == "" {
		return byteRange{}, errors.New("no Content-Range")
	}
	bad := fmt.Errorf("Content-Range %.60q cannot be read", v)
	unit, rest, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return byteRange{}, bad
	}
	span, size, ok := strings.Cut(rest, "/")
	if !ok {
		return byteRange{}, bad
	}
	from, to, ok := strings.Cut(span, "-")
	if !ok {
		return byteRange{}, bad
	}
	var r byteRange
	for _, field := range []struct {
		text string
		to   *int64
	}{{from, &r.first}, {to, &r.last}, {size, &r.total}} {
		if field.to == &r.total && field.text == "*" {
			r.total = unknownTotal
			continue
		}
		if *field.to, ok = parseOffset(field.text); !ok {
			return byteRange{}, bad
		}
	}
	if r.first > r.last || r.total != unknownTotal && r.last >= r.total {
		return byteRange{}, bad
	}
	return r, nil
}

// parseOffset parses a number of decimal digits only. ok is false if s is anything else
// or does not fit into an int64.
func parseOffset(s string) (n int64, ok bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' || n > (1<<63-1-int64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
