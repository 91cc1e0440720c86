package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// Blob opens n bytes of a blob from off (n < 0: to the end); see
// content.Source. The body it returns is a content.Rejecter. Reads with large
// buffers reach the connection without a copy; reading must not go on after
// Close.
//
// Errors, here and from the body, are as those of Manifest.
func (c *Client) Blob(ctx context.Context, ref reference.Reference, cred credentials.Credential, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, int64, error) {
	if err := checkRef(ref); err != nil {
		return nil, 0, err
	}
	if err := verify.Digest(desc.Digest); err != nil {
		return nil, 0, fail(content.ErrBadDigest, "", err)
	}
	if desc.Size < 0 || off < 0 || off > desc.Size {
		return nil, 0, failf(content.ErrSizeMismatch, "", "byte %d of a blob of %d bytes", off, desc.Size)
	}
	end := desc.Size
	if n >= 0 && n < desc.Size-off {
		end = off + n
	}
	if off == end {
		return http.NoBody, off, nil
	}
	hosts, release, err := c.candidates(ctx, ref.Registry(), Pull, desc.Digest)
	if err != nil {
		return nil, 0, err
	}
	b := &body{client: c, ctx: ctx, ref: ref, cred: cred, desc: desc, hosts: hosts, release: release, off: off, pos: off, end: end, opening: true}
	defer func() {
		if b.opening { // by an error or a panic: nobody will close it
			release()
		}
	}()
	b.patience = c.patience()
	b.pace.enter(time.Now())
	if err := b.open(); err != nil {
		return nil, 0, err
	}
	b.elapse()
	b.opening = false
	return b, b.off, nil
}

// request asks an endpoint for what is still to come. An answer that can be
// used is kept, and skip set to the bytes at its start that were there before.
func (b *body) request(ctx context.Context, ep *endpoint, cred credentials.Credential) error {
	whole := b.pos == 0 && b.end == b.desc.Size
	a, err := b.get(ctx, ep, cred, !whole)
	if err != nil {
		return err
	}
	if !whole && a.StatusCode != http.StatusOK {
		var length int64
		if length, err = b.checkRange(a); err == nil {
			return b.take(ep, a, b.pos, length)
		}
		// A host that has another idea of the blob is asked once for all of it.
		a.end()
		if b.fresh[ep] {
			return err
		}
		if b.fresh == nil {
			b.fresh = map[*endpoint]bool{}
		}
		b.fresh[ep] = true
		if a, err = b.get(ctx, ep, cred, false); err != nil {
			return err
		}
	}
	if a.StatusCode != http.StatusOK {
		a.end()
		kind := content.ErrStatus
		if a.StatusCode == http.StatusPartialContent || a.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			kind = content.ErrRange
		}
		return a.unexpected(kind)
	}
	return b.take(ep, a, 0, b.desc.Size)
}

// bulkSize is from how many bytes on a connection of its own is worth it.
const bulkSize = 1 << 20

// get makes one GET of the blob, or of the range that is still to come.
func (b *body) get(ctx context.Context, ep *endpoint, cred credentials.Credential, ranged bool) (*answer, error) {
	r := request{method: http.MethodGet, repository: b.ref.Repository(), kind: "blobs", name: string(b.desc.Digest), cred: cred, header: http.Header{}, bulk: b.end-b.pos >= bulkSize}
	if ranged {
		// Closed also at the end of the blob: there are registries that answer 416
		// to every range without an end.
		r.header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.pos, b.end-1))
	}
	a, err := ep.ask(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := a.identity(); err != nil {
		a.end()
		return nil, err
	}
	return a, nil
}

// checkRange checks the answer to a request with Range that is not 200. It returns
// how many bytes the answer says that it has.
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
		_, err = parseContentRange(redact.Secrets(header, a.secrets...)) // the same, fit to be shown
		return 0, a.fail(content.ErrRange, err)
	}
	if !got.fits(b.pos, b.desc.Size) {
		return 0, a.failf(content.ErrRange, "Content-Range %.60q in answer to a request for byte %d of %d", header, b.pos, b.desc.Size)
	}
	return got.last - got.first + 1, nil
}

// take makes an answer the one that is read. It begins at byte start of the blob and
// must have length bytes. A host that announces another number has something else
// than the blob. The last host is read all the same, because many servers announce
// nothing that is right and only the bytes count; a host before it is left at once,
// before its bytes take the place of those that an earlier answer gave.
func (b *body) take(ep *endpoint, a *answer, start, length int64) error {
	if len(b.hosts) > 1 && a.ContentLength >= 0 && a.ContentLength != length {
		defer a.end()
		return a.failf(content.ErrSizeMismatch, "the blob has %d bytes from byte %d on, the host announces %d", length, start, a.ContentLength)
	}
	if b.opening {
		// The caller has nothing yet, so it can be given the answer as it is.
		b.off, b.pos = start, start
	}
	b.answer, b.skip, b.rate = a, b.pos-start, rate{}
	b.left = a.ContentLength // -1 if the answer does not say
	b.answers++
	if b.from == nil {
		b.from = map[*endpoint]bool{}
	}
	b.from[ep] = true
	return nil
}
