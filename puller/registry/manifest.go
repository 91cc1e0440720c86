package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// maxManifest is the largest manifest or index that is read: what containerd
// and containers/image read too.
const maxManifest = 4 << 20

// accepted is the Accept header of manifest requests.
func accepted() []string {
	return []string{mediatype.Accept}
}

// Manifest returns the manifest or index that ref names; see content.Source.
// It makes one request, a GET, or a HEAD when have is set, and a GET after it if
// the HEAD does not say that the digest is still have. When it does, desc has
// the size that the registry told, or 0.
//
// A HEAD is a saving and never a verdict. It goes through the mirrors to the
// registry; if all of them refuse it, one GET goes the same way, and its answer
// counts. A host that refused with 429, or that refused a password which was
// shown, is not asked by GET.
//
// Errors wrap a *content.Error; that of a refusal also a *StatusError, and
// fs.ErrNotExist or fs.ErrPermission where it is about that.
func (c *Client) Manifest(ctx context.Context, ref reference.Reference, cred credentials.Credential, have digest.Digest) (ocispec.Descriptor, []byte, error) {
	if have == "" {
		return c.manifest(ctx, ref, cred, nil)
	}
	return c.manifest(ctx, ref, cred, func(told digest.Digest) bool { return told == have })
}

// Resolve returns what ref names, by one HEAD; see content.Resolver. It makes the
// requests of Manifest, and as few: Docker Hub, which counts what an address or an
// account may pull, counts a GET as a pull and a HEAD not. desc has the media type and
// size that the registry told, or none.
func (c *Client) Resolve(ctx context.Context, ref reference.Reference, cred credentials.Credential) (ocispec.Descriptor, error) {
	desc, _, err := c.manifest(ctx, ref, cred, func(told digest.Digest) bool {
		return verify.Digest(told) == nil && (ref.Digest() == "" || told == ref.Digest())
	})
	return desc, err
}

// manifest asks by HEAD, if enough is set, and by GET where the HEAD was refused, or
// the digest it told is not enough. Then the body is not nil.
func (c *Client) manifest(ctx context.Context, ref reference.Reference, cred credentials.Credential, enough func(told digest.Digest) bool) (ocispec.Descriptor, []byte, error) {
	if err := checkRef(ref); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	need := Resolve
	if ref.Digest() != "" {
		need = Pull
	}
	w, err := c.walk(ctx, ref, cred, need)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	defer w.release()
	var desc ocispec.Descriptor
	var body []byte
	shared := &call{}
	by := func(enough func(digest.Digest) bool) attempt {
		return func(ctx context.Context, ep *endpoint, cred credentials.Credential) (err error) {
			desc, body, err = ep.manifest(ctx, ref, cred, enough, shared)
			return err
		}
	}
	err = w.each(ctx, by(enough))
	if err != nil && enough != nil && ctx.Err() == nil {
		err = w.afterHead(ctx, by(nil))
	}
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return desc, body, nil
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

func (ep *endpoint) manifest(ctx context.Context, ref reference.Reference, cred credentials.Credential, enough func(digest.Digest) bool, shared *call) (ocispec.Descriptor, []byte, error) {
	r := request{method: http.MethodGet, repository: ref.Repository(), kind: "manifests", name: ref.Tag(), cred: cred, header: http.Header{"Accept": accepted()}, call: shared}
	if d := ref.Digest(); d != "" {
		r.name = string(d)
	}
	if enough != nil {
		desc, ok, err := ep.head(ctx, r, enough, ref.Digest())
		if ok || err != nil {
			return desc, nil, err
		}
	}
	a, err := ep.ask(ctx, r)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	defer a.end()
	body, err := a.document(2 * ep.client.stall())
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return a.describe(body, ref.Digest())
}

// head asks by HEAD what the name points to; ok if what the server tells is enough. A
// server that knows no HEAD has told nothing.
func (ep *endpoint) head(ctx context.Context, r request, enough func(digest.Digest) bool, pinned digest.Digest) (desc ocispec.Descriptor, ok bool, err error) {
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
	told := digest.Digest(a.Header.Get("Docker-Content-Digest"))
	if told == "" {
		told = pinned // what is there under a digest has that digest
	}
	if a.StatusCode != http.StatusOK || !enough(told) {
		return ocispec.Descriptor{}, false, nil
	}
	return ocispec.Descriptor{MediaType: a.mediaType(), Digest: told, Size: max(a.ContentLength, 0)}, true, nil
}

// document reads a manifest whole. window is over what time it must not be too slow.
func (a *answer) document(window time.Duration) ([]byte, error) {
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
	body, err := io.ReadAll(io.LimitReader(&armed{answer: a, window: window}, maxManifest+1))
	switch {
	case len(body) > maxManifest:
		return nil, tooLarge
	case errors.Is(err, errSlow):
		return nil, a.fail(content.ErrTimeout, err)
	case err != nil:
		return nil, failTrip(a.watch.ctx, a.host, early(err), a.secrets)
	}
	return body, nil
}

// An armed reader watches each read of a body, and how fast they go on.
type armed struct {
	*answer
	rate   rate
	window time.Duration
}

func (r *armed) Read(p []byte) (int, error) {
	r.watch.arm()
	defer r.watch.rest()
	began := time.Now()
	n, err := r.Body.Read(p)
	if r.rate.add(time.Since(began), n, r.window) && err == nil {
		err = errSlow
	}
	return n, err
}

// describe verifies a document against the digests it was announced with, and
// finds its type: the answer and the document must not disagree.
func (a *answer) describe(body []byte, pinned digest.Digest) (ocispec.Descriptor, []byte, error) {
	told := digest.Digest(a.Header.Get("Docker-Content-Digest"))
	if told != "" {
		if verify.Digest(told) != nil { // nor is it a digest without the secrets
			err := verify.Digest(digest.Digest(redact.Secrets(string(told), a.secrets...)))
			return ocispec.Descriptor{}, nil, a.failf(content.ErrBadDigest, "Docker-Content-Digest: %w", err)
		}
	}
	name := told
	if name == "" {
		name = digest.Digest("sha256:" + strings.Repeat("0", 64)) // names the algorithm only
	}
	for _, want := range []digest.Digest{pinned, told} {
		if want != "" && !verify.Bytes(want, body) {
			err := fmt.Errorf("the document of %d bytes is not %s", len(body), want)
			return ocispec.Descriptor{}, nil, a.fail(content.ErrDigestMismatch, a.called(err))
		}
	}
	desc := ocispec.Descriptor{Digest: pinned, Size: int64(len(body))}
	if pinned == "" {
		h, err := verify.New(name)
		if err != nil {
			return ocispec.Descriptor{}, nil, a.fail(content.ErrBadDigest, err)
		}
		h.Write(body)
		desc.Digest = verify.Sum(name, h)
	}
	var err error
	if desc.MediaType, err = documentType(a.mediaType(), body, a.secrets); err != nil {
		kind := content.ErrBadManifest
		if errors.Is(err, content.ErrMediaType) {
			kind = content.ErrMediaType
		}
		return ocispec.Descriptor{}, nil, a.fail(kind, a.called(err))
	}
	return desc, body, nil
}

// called adds to what is wrong with a document what the server calls it, if it
// calls it no manifest and err does not say so: pages for people come from
// captive portals, and from web servers that are no registries.
func (a *answer) called(err error) error {
	said := mediatype.Bare(a.Header.Get("Content-Type"))
	shown := quote(said, 100, a.secrets)
	if said == "" || isManifestType(said) || strings.Contains(err.Error(), shown) {
		return err
	}
	return fmt.Errorf("%w (the server calls it %s)", err, shown)
}

func isManifestType(mediaType string) bool {
	return mediatype.IsIndex(mediaType) || mediatype.IsManifest(mediaType)
}

// mediaType is the Content-Type without parameters; "" if it says nothing.
func (a *answer) mediaType() string {
	t, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// documentType finds the media type of a document from its Content-Type and
// its own mediaType. Types that say nothing count as none. Docker's and OCI's type
// of one class do not contradict each other; the document's own counts.
func documentType(header string, body []byte, secrets []string) (string, error) {
	var inside string
	var manifests, layers bool
	err := strictjson.Decode(body, strictjson.Limits{}, func(r *strictjson.Reader) error {
		return r.Object([]string{"mediaType", "manifests", "layers"}, func(key string) (err error) {
			switch key {
			case "mediaType":
				inside, err = r.String()
			case "manifests":
				manifests, err = true, r.Skip()
			case "layers":
				layers, err = true, r.Skip()
			}
			return err
		})
	})
	if err != nil {
		return "", err
	}
	vague := header == "" || header == "application/json" || header == "text/plain" || header == "application/octet-stream"
	switch {
	case isManifestType(inside) && mediatype.ClassOf(header) == mediatype.ClassOf(inside):
	case !vague && inside != "" && header != inside:
		return "", fmt.Errorf("Content-Type %s, but mediaType %s", quote(header, 100, secrets), quote(inside, 100, secrets))
	case !vague:
		inside = header
	}
	switch {
	case inside == "" && manifests && !layers:
		inside = ocispec.MediaTypeImageIndex
	case inside == "" && !manifests:
		inside = ocispec.MediaTypeImageManifest
	}
	switch {
	case isManifestType(inside):
		return mediatype.Bare(inside), nil
	case inside == "":
		return "", errors.New("a document with both manifests and layers")
	}
	return "", fmt.Errorf("%w %s, want an index or manifest of OCI or Docker", content.ErrMediaType, quote(inside, 100, secrets))
}
