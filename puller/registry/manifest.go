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

	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// maxManifest bounds a manifest or index, in bytes, as in containerd and
// containers/image.
const maxManifest = 4 << 20

// Manifest returns the manifest or index that ref names; see content.Source. It makes
// one GET. If have is set, it makes one HEAD first, and does not make the GET if the
// HEAD shows that the digest is still have. Then the document has no body, and
// Desc.Size is the size that the registry sent, or 0.
//
// Desc.MediaType is the media type that the server sent, or "". The Client verifies the
// document's digest and size, and refuses a document that is not a JSON object. It does
// not check the rest of the document, or whether the document agrees with
// Desc.MediaType. Package transfer calls index.Parse for that.
//
// A HEAD saves bytes and decides nothing. It is sent to the mirrors in their order and
// then to the registry. If all of them refuse it, one GET is sent in the same order,
// and the answer to the GET counts. A host is not asked by GET if it answered the HEAD
// with 429, or refused a password that was sent with the HEAD.
//
// Errors are *content.Error, or those of ctx. The error of a refusal has the status and
// the registry's codes. For errors.Is it is fs.ErrNotExist or fs.ErrPermission if the
// refusal means that.
func (c *Client) Manifest(ctx context.Context, repo content.Repo, have digest.Digest) (content.Document, error) {
	if have == "" {
		return c.manifest(ctx, repo, nil)
	}
	return c.manifest(ctx, repo, func(sent digest.Digest) bool { return sent == have })
}

// Resolve returns the descriptor that the reference names, by one HEAD; see
// content.Resolver. If the HEAD is refused or has no digest, a GET follows, as in
// Manifest. The HEAD matters for Docker Hub, which limits pulls: it counts a GET as a
// pull, but not a HEAD. The descriptor has the media type and the size that the
// registry sent, if it sent them.
func (c *Client) Resolve(ctx context.Context, repo content.Repo) (ocispec.Descriptor, error) {
	doc, err := c.manifest(ctx, repo, func(sent digest.Digest) bool {
		return verify.Digest(sent) == nil && (repo.Ref.Digest() == "" || sent == repo.Ref.Digest())
	})
	return doc.Desc, err
}

// manifest asks by HEAD if enough is set. It asks by GET if enough is nil, if the HEAD
// was refused, or if enough is false for the digest that the HEAD brought. After a GET
// the body is not nil.
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
		return func(ctx context.Context, ep *endpoint, by login) (err error) {
			doc, err = w.document(ctx, ep, by, enough, shared)
			return err
		}
	}
	err = w.ask(ctx, nil, by(enough))
	if err != nil && enough != nil && ctx.Err() == nil {
		err = w.askByGet(ctx, by(nil))
	}
	unconfirmed := false
	if err != nil && c.cfg.FindWithoutRegistry && repo.Ref.Digest() != "" && !c.confirmed(repo) && ctx.Err() == nil && w.away() && w.toFound(ctx) {
		if w.ask(ctx, nil, by(nil)) == nil {
			err, unconfirmed = nil, true
		}
	}
	if err != nil {
		return content.Document{}, err
	}
	doc.Opening, doc.Confirmation = w.opening, repo.Confirmation
	doc.Opening.Unconfirmed = unconfirmed
	if !c.confirmed(repo) {
		doc.Confirmation = w.confirm()
	}
	doc.Mask = func(text string) string { return c.mask(text, repo.Cred, w.opening.Credential) }
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

// askByGet asks by GET after all hosts refused a HEAD. For a host that is not asked by
// GET, the answer to the HEAD stays its answer.
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

// mayGet reports whether a host is asked by GET, depending on its answer to the HEAD. If
// the registry ordered a wait, mayGet waits.
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
		return !token.secretSent // a wrong password must not be sent twice, and the token server gave a reason
	case status.method != http.MethodHead:
		return false // the host does not know HEAD and was already asked by GET
	}
	ordered := retryAfterOf(err)
	if ordered == 0 {
		return true
	}
	return !w.mirror() && w.patience.allows(ordered) && sleep(ctx, ordered) == nil
}

// document makes one try at one host.
func (w *hostWalk) document(ctx context.Context, ep *endpoint, by login, enough func(digest.Digest) bool, shared *call) (content.Document, error) {
	pinned := w.repo.Ref.Digest()
	r := request{method: http.MethodGet, repository: w.repo.Ref.Repository(), kind: "manifests", name: w.repo.Ref.Tag(), login: by,
		header: http.Header{"Accept": {mediatype.Accept}}, call: shared}
	if pinned != "" {
		r.name = string(pinned)
	}
	if enough != nil {
		doc, ok, err := w.head(ctx, ep, r, enough)
		if ok || err != nil {
			return doc, err
		}
	}
	return ep.document(ctx, r, pinned)
}

// document asks by GET for a manifest or index. pinned is the digest that it must have; ""
// for a tag.
func (ep *endpoint) document(ctx context.Context, r request, pinned digest.Digest) (content.Document, error) {
	a, err := ep.ask(ctx, r)
	if err != nil {
		return content.Document{}, err
	}
	defer a.end()
	body, err := a.document()
	if err != nil {
		return content.Document{}, err
	}
	doc, err := a.describe(body, pinned)
	doc.Provenance = ep.provenance(a)
	return doc, err
}

// head asks by HEAD what the name points to. ok reports whether the answer is enough.
// For a server that does not know HEAD, ok is false and err is nil.
func (w *hostWalk) head(ctx context.Context, ep *endpoint, r request, enough func(digest.Digest) bool) (doc content.Document, ok bool, err error) {
	r.method = http.MethodHead
	a, err := ep.ask(ctx, r)
	if err != nil {
		switch statusOf(err) {
		case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest:
			return content.Document{}, false, nil
		}
		return content.Document{}, false, err
	}
	defer a.end()
	sent := digest.Digest(a.Header.Get("Docker-Content-Digest"))
	if sent == "" {
		sent = w.repo.Ref.Digest() // a document that was asked for by digest has that digest
	}
	if a.StatusCode != http.StatusOK || !enough(sent) {
		return content.Document{}, false, nil
	}
	desc := ocispec.Descriptor{MediaType: a.mediaType(), Digest: sent, Size: max(a.ContentLength, 0)}
	return content.Document{Desc: desc, Provenance: ep.provenance(a)}, true, nil
}

// document reads a whole manifest or index.
func (a *answer) document() ([]byte, error) {
	if a.StatusCode != http.StatusOK {
		return nil, a.unexpected(content.ErrStatus)
	}
	if err := a.checkEncoding(); err != nil {
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

// describe verifies a document against the digest of the request (pinned) and the
// digest that the server sent. It refuses a body that is not a JSON object, so that the
// next host is asked if a mirror answers with a web page or with half of a document.
func (a *answer) describe(body []byte, pinned digest.Digest) (content.Document, error) {
	sent := digest.Digest(a.Header.Get("Docker-Content-Digest"))
	if sent != "" && verify.Digest(sent) != nil { // it is still not a digest with the secrets masked
		err := verify.Digest(digest.Digest(redact.Secrets(string(sent), a.secrets...)))
		return content.Document{}, a.failf(content.ErrBadDigest, "Docker-Content-Digest: %w", err)
	}
	for _, want := range []digest.Digest{pinned, sent} {
		if want != "" && !verify.Bytes(want, body) {
			err := fmt.Errorf("the document of %d bytes is not %s", len(body), want)
			return content.Document{}, a.fail(content.ErrDigestMismatch, a.withContentType(err))
		}
	}
	if !isObject(body) {
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

// isObject reports whether a body is a JSON object.
func isObject(body []byte) bool {
	return json.Valid(body) && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}

// withContentType adds the server's Content-Type to an error about a document, unless
// it is the type of a manifest or index. Captive portals, and web servers that are not
// registries, answer with web pages.
func (a *answer) withContentType(err error) error {
	said := mediatype.Bare(a.Header.Get("Content-Type"))
	if said == "" || mediatype.IsIndex(said) || mediatype.IsManifest(said) {
		return err
	}
	return fmt.Errorf("%w (the server calls it %s)", err, quote(said, 100, a.secrets))
}

// mediaType returns the Content-Type without parameters; "" if the answer has no valid
// one.
func (a *answer) mediaType() string {
	t, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}
