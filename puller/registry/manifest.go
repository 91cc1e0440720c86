package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// maxManifest is the size of the largest manifest or index that is read, as in
// containerd and containers/image.
const maxManifest = 4 << 20

// Manifest returns the manifest or index that ref names; see content.Source. It makes
// one GET, or, if have is set, a HEAD, and a GET after it if the HEAD does not say that
// the digest is still have. If it does, desc has the size that the registry sent, or 0.
//
// desc.MediaType is what the server calls the document, or "". The Client verifies the
// document's digest and size and refuses what is not a JSON object. What the document
// means, and whether it agrees with desc.MediaType, is for index.Parse to say, which
// package transfer calls.
//
// A HEAD is a saving and never a verdict. It goes through the mirrors to the registry.
// If all of them refuse it, one GET goes the same way, and its answer counts. A host
// that refused the HEAD with 429, or refused a password that was sent with it, is not
// asked by GET.
//
// Errors are *content.Error. That of a refusal has the status and the registry's codes, and
// is an fs.ErrNotExist or fs.ErrPermission where it means that.
func (c *Client) Manifest(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
	if have == "" {
		return c.manifest(ctx, repo, nil)
	}
	return c.manifest(ctx, repo, func(sent digest.Digest) bool { return sent == have })
}

// Resolve returns what ref names, by one HEAD; see content.Resolver. It makes the
// requests of Manifest, and as few: Docker Hub, which counts what an address or an
// account may pull, counts a GET as a pull and a HEAD not. desc has the media type and
// size that the registry sent, or none.
func (c *Client) Resolve(ctx context.Context, repo content.Repo) (ocispec.Descriptor, error) {
	doc, err := c.manifest(ctx, repo, func(sent digest.Digest) bool {
		return verify.Digest(sent) == nil && (repo.Ref.Digest() == "" || sent == repo.Ref.Digest())
	})
	return doc.Desc, err
}

// manifest asks by HEAD, if enough is set, and by GET if the HEAD was refused, or the
// digest that it brought is not enough. After a GET the body is not nil.
func (c *Client) manifest(ctx context.Context, repo content.Repo, enough func(digest.Digest) bool) (content.Document, error) {
	if err := checkRef(repo.Ref); err != nil {
		return content.Document{}, err
	}
	need := CanResolve
	if repo.Ref.Digest() != "" {
		need = CanPull
	}
	w, err := newHostWalk(ctx, c, repo, need, "")
	if err != nil {
		return content.Document{}, err
	}
	defer w.release()
	var doc content.Document
	shared := &call{}
	by := func(enough func(digest.Digest) bool) attempt {
		return func(ctx context.Context, ep *endpoint, cred credentials.Credential) (err error) {
			doc, err = w.document(ctx, ep, cred, enough, shared)
			return err
		}
	}
	err = w.ask(ctx, nil, by(enough))
	if err != nil && enough != nil && ctx.Err() == nil {
		err = w.askByGet(ctx, by(nil))
	}
	if err != nil {
		return content.Document{}, err
	}
	doc.Mask = func(text string) string { return c.mask(repo.Cred, text) }
	return doc, nil
}

func checkRef(ref reference.Reference) error {
	if ref.IsZero() {
		return failf(content.ErrBadReference, "", "no image name")
	}
	if d := ref.Digest(); d != "" {
		if err := verify.Digest(d); err != nil {
			return fail(content.ErrBadDigest, "", err)
		}
	}
	return nil
}

// askByGet asks by GET after all hosts refused a HEAD. A host that the GET does not go
// to keeps its answer to the HEAD.
func (w *hostWalk) askByGet(ctx context.Context, get attempt) error {
	w.at = 0
	err := w.ask(ctx, func(host int) bool { return !w.mayGet(ctx, host) }, get)
	var e *content.Error
	var status *statusError
	if errors.As(err, &e) && errors.As(err, &status) && status.passwordRefused && status.method == http.MethodHead {
		marked := *e
		marked.HeadRefused = true
		return &marked
	}
	return err
}

// mayGet reports whether a GET goes to a host after what it answered to the HEAD. It
// waits if the registry ordered that.
func (w *hostWalk) mayGet(ctx context.Context, host int) bool {
	if ctx.Err() != nil {
		return false
	}
	err := w.failed[host]
	var status *statusError
	var token *tokenError
	switch {
	case !errors.As(err, &status), content.ReasonOf(err) == content.ErrRateLimited, status.passwordRefused:
		return false
	case errors.As(err, &token):
		return !token.secretSent // the token server gave a reason, and a wrong password must not count twice
	case status.method != http.MethodHead:
		return false // a host that does not know HEAD was asked by GET already
	}
	ordered := retryAfterOf(err)
	if ordered == 0 {
		return true
	}
	return !w.mirror() && w.patience.allows(ordered) && sleep(ctx, ordered) == nil
}

// document makes one try at one host.
func (w *hostWalk) document(ctx context.Context, ep *endpoint, cred credentials.Credential, enough func(digest.Digest) bool, shared *call) (content.Document, error) {
	pinned := w.repo.Ref.Digest()
	r := request{method: http.MethodGet, repository: w.repo.Ref.Repository(), kind: "manifests", name: w.repo.Ref.Tag(), cred: cred,
		header: http.Header{"Accept": {mediatype.Accept}}, call: shared}
	if pinned != "" {
		r.name = string(pinned)
	}
	if enough != nil {
		desc, ok, err := w.head(ctx, ep, r, enough)
		if ok || err != nil {
			return content.Document{Desc: desc}, err
		}
	}
	a, err := ep.ask(ctx, r)
	if err != nil {
		return content.Document{}, err
	}
	defer a.end()
	body, err := a.document()
	if err != nil {
		return content.Document{}, err
	}
	return a.describe(body, pinned)
}

// head asks by HEAD what the name points to. ok says that the answer is enough. A server
// that does not know HEAD has not answered.
func (w *hostWalk) head(ctx context.Context, ep *endpoint, r request, enough func(digest.Digest) bool) (desc ocispec.Descriptor, ok bool, err error) {
	r.method = http.MethodHead
	a, err := ep.ask(ctx, r)
	if err != nil {
		switch statusOf(err) {
		case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest:
			return ocispec.Descriptor{}, false, nil
		}
		return ocispec.Descriptor{}, false, err
	}
	defer a.end()
	sent := digest.Digest(a.Header.Get("Docker-Content-Digest"))
	if sent == "" {
		sent = w.repo.Ref.Digest() // what is there under a digest has that digest
	}
	if a.StatusCode != http.StatusOK || !enough(sent) {
		return ocispec.Descriptor{}, false, nil
	}
	return ocispec.Descriptor{MediaType: a.mediaType(), Digest: sent, Size: max(a.ContentLength, 0)}, true, nil
}

// document reads the whole of a manifest.
func (a *answer) document() ([]byte, error) {
	if a.StatusCode != http.StatusOK {
		return nil, a.unexpected(content.ErrStatus)
	}
	if err := a.identity(); err != nil {
		return nil, err
	}
	tooLarge := a.failf(content.ErrTooLarge, "a manifest of more than %d bytes", maxManifest)
	if a.ContentLength > maxManifest {
		return nil, tooLarge
	}
	body, err := io.ReadAll(io.LimitReader(a, maxManifest+1))
	switch {
	case len(body) > maxManifest:
		return nil, tooLarge
	case errors.Is(err, errSlow):
		return nil, a.fail(content.ErrTimeout, err)
	case err != nil:
		return nil, failTrip(a.stall.ctx, a.host, tooEarly(err), a.secrets)
	}
	return body, nil
}

// describe verifies a document against the digests that it was requested and sent with.
// Something that cannot be a document at all is refused here, so that the next host is
// asked after a mirror that answers with a page or with half of a document.
func (a *answer) describe(body []byte, pinned digest.Digest) (content.Document, error) {
	sent := digest.Digest(a.Header.Get("Docker-Content-Digest"))
	if sent != "" && verify.Digest(sent) != nil { // then it is not a digest without the secrets either
		err := verify.Digest(digest.Digest(redact.Secrets(string(sent), a.secrets...)))
		return content.Document{}, a.failf(content.ErrBadDigest, "Docker-Content-Digest: %w", err)
	}
	for _, want := range []digest.Digest{pinned, sent} {
		if want != "" && !verify.Bytes(want, body) {
			err := fmt.Errorf("the document of %d bytes is not %s", len(body), want)
			return content.Document{}, a.fail(content.ErrDigestMismatch, a.withContentType(err))
		}
	}
	if !json.Valid(body) || !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return content.Document{}, a.fail(content.ErrBadManifest, a.withContentType(errors.New("the document is not a JSON object")))
	}
	desc := ocispec.Descriptor{MediaType: a.mediaType(), Digest: pinned, Size: int64(len(body))}
	if pinned == "" {
		algorithm := sent
		if algorithm == "" {
			algorithm = digest.Digest("sha256:" + strings.Repeat("0", 64))
		}
		h, err := verify.New(algorithm)
		if err != nil {
			return content.Document{}, a.fail(content.ErrBadDigest, err)
		}
		h.Write(body)
		desc.Digest = verify.Sum(algorithm, h)
	}
	return content.Document{Desc: desc, Body: body}, nil
}

// withContentType adds the server's Content-Type to what is wrong with a document, unless
// it is that of a manifest. Captive portals, and web servers that are not registries,
// answer with pages.
func (a *answer) withContentType(err error) error {
	said := mediatype.Bare(a.Header.Get("Content-Type"))
	if said == "" || mediatype.IsIndex(said) || mediatype.IsManifest(said) {
		return err
	}
	return fmt.Errorf("%w (the server calls it %s)", err, quote(said, 100, a.secrets))
}

// mediaType is the Content-Type without parameters; "" if the answer has none.
func (a *answer) mediaType() string {
	t, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}
