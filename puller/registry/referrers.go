package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	// maxReferrerPages is how many pages a list of referrers may have.
	maxReferrerPages = 100
	// maxReferrerBytes bounds all pages of a list together, in bytes.
	maxReferrerBytes = 16 << 20
	// maxReferrers is how many entries a list may have, including those that the filter
	// leaves out.
	maxReferrers = 4096
	// maxUntyped is how many manifests of one list are read because their entries do not
	// name an artifact type.
	maxUntyped = 64
)

// cosignTags has the endings of the tags under which cosign stores signatures, attestations and
// SBOMs of a manifest. For each of them it has the artifact type that cosign uses when it stores
// the same content as a referrer.
var cosignTags = []struct{ ending, artifactType string }{
	{".sig", "application/vnd.dev.cosign.artifact.sig.v1+json"},
	{".att", "application/vnd.dev.cosign.artifact.att.v1+json"},
	{".sbom", "application/vnd.dev.cosign.artifact.sbom.v1+json"},
}

// Referrers lists the manifests that refer to the manifest or index with the digest
// subject, in the repository of repo: its signatures, attestations and SBOMs. The tag and
// the digest of repo.Ref do not matter. If artifactType is not "", only entries of that
// type are listed. The list is empty if nothing refers to subject; that is not an error.
//
// The list is not verified. Each user that may push to the repository can add to it, so a
// caller must verify a signature, and that the signature is for subject. To read an entry, use
// [Client.Manifest] and [Client.Blob] with the digest of the entry.
//
// The Client uses the referrers API of the OCI distribution specification 1.1, and reads all
// pages. If the registry does not have that API, the Client reads the tag that the
// specification has for this case, sha256-<hex>. An answer of 400, 404, 405 or 501, or a web
// page, means that a registry does not have the API. The registry need not support the filter,
// because the Client compares the types itself. Some registries, and some clients that write
// the index of the tag, write entries without a type, or with the type of the config. With a
// filter, the Client reads the manifests of at most 64 such entries to get their type.
//
// The list also has what cosign stores under its own tags, sha256-<hex>.sig, .att and .sbom.
// These entries have the ArtifactType application/vnd.dev.cosign.artifact.sig.v1+json (or att
// or sbom), as cosign gives it to referrers. Each of these tags costs one request. The Client
// asks only for those tags whose type the filter allows.
//
// The Client asks only mirrors that have the capability CanReferrers. It passes over a mirror
// that lists nothing, because many caches have only images. A registry without that capability
// is asked only for the tags. All pages together may have 16 MiB and 4,096 entries, and each
// page 4 MiB; more is content.ErrTooLarge. Errors are those of [Client.Manifest].
func (c *Client) Referrers(ctx context.Context, repo content.Repo, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	if err := checkRef(repo.Ref); err != nil {
		return nil, err
	}
	if err := verify.Digest(subject); err != nil {
		return nil, fail(content.ErrBadDigest, "", err)
	}
	w, err := newHostWalk(ctx, c, repo, CanReferrers, "")
	if err != nil {
		return nil, err
	}
	defer w.release()
	var found []ocispec.Descriptor
	err = w.ask(ctx, nil, func(ctx context.Context, ep *endpoint, by login) error {
		l := referrerList{ep: ep, subject: subject, artifactType: artifactType, seen: map[digest.Digest]bool{},
			request: request{method: http.MethodGet, repository: repo.Ref.Repository(), login: by, call: &call{}}}
		if err := l.read(ctx); err != nil {
			return err
		}
		if len(l.found) == 0 && w.mirror() {
			return failf(content.ErrNotFound, ep.base.Host, "the mirror lists no referrers of %s", subject)
		}
		found = l.found
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// A referrerList collects the manifests that refer to a manifest, from one host.
type referrerList struct {
	ep           *endpoint
	subject      digest.Digest
	artifactType string  // "" means all
	request      request // without kind, name and header

	found   []ocispec.Descriptor
	seen    map[digest.Digest]bool
	entries int // of all pages
	bytes   int // of all pages
	untyped int // manifests that were read for their type
}

func (l *referrerList) read(ctx context.Context) error {
	listed := false
	if l.ep.can(CanReferrers) {
		var err error
		if listed, err = l.readAPI(ctx); err != nil {
			return err
		}
	}
	if !listed {
		if err := l.readTag(ctx); err != nil {
			return err
		}
	}
	return l.readCosign(ctx)
}

// readAPI reads all pages of the referrers API. It returns false if the host does not have
// that API.
func (l *referrerList) readAPI(ctx context.Context) (bool, error) {
	r := l.request
	r.kind, r.name = "referrers", string(l.subject)
	r.header = http.Header{"Accept": {ocispec.MediaTypeImageIndex}}
	if l.artifactType != "" {
		r.query = url.Values{"artifactType": {l.artifactType}}.Encode()
	}
	asked := map[string]bool{}
	for page := 1; ; page++ {
		next, listed, err := l.readPage(ctx, r, page == 1)
		if err != nil || !listed {
			return false, err
		}
		if next == nil {
			return true, nil
		}
		if page == maxReferrerPages {
			return false, l.failf(content.ErrTooLarge, "the list of referrers has more than %d pages", maxReferrerPages)
		}
		if asked[next.RequestURI()] {
			return false, l.failf(content.ErrBadIndex, "the list of referrers has no end: page %d names an earlier page as the next one", page)
		}
		asked[next.RequestURI()] = true
		r.page = next
	}
}

// readPage reads one page, and returns the URL of the next page, or nil for the last page. For
// the first page it returns false if the host does not have the API.
func (l *referrerList) readPage(ctx context.Context, r request, first bool) (next *url.URL, listed bool, err error) {
	a, err := l.ep.ask(ctx, r)
	if err != nil {
		if first && lacksAPI(err) {
			return nil, false, nil
		}
		return nil, false, err
	}
	defer a.end()
	body, err := a.document()
	if err != nil {
		return nil, false, err
	}
	if !isObject(body) {
		if first && a.mediaType() == "text/html" {
			return nil, false, nil
		}
		return nil, false, a.fail(content.ErrBadIndex, a.withContentType(errors.New("the list of referrers is not a JSON object")))
	}
	if err := l.addIndex(ctx, a.mediaType(), body); err != nil {
		return nil, false, err
	}
	next, err = a.nextPage()
	return next, true, err
}

// lacksAPI reports whether the answer to the first page means that the host does not have
// the referrers API.
func lacksAPI(err error) bool {
	if errors.As(err, new(*tokenError)) {
		return false
	}
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	case http.StatusBadRequest:
		return content.ReasonOf(err) == content.ErrStatus
	}
	return false
}

// readTag reads the index under the tag that replaces the referrers API.
func (l *referrerList) readTag(ctx context.Context) error {
	doc, err := l.tagged(ctx, referrersTag(l.subject))
	if err != nil || doc.Body == nil {
		return err
	}
	return l.addIndex(ctx, doc.Desc.MediaType, doc.Body)
}

// readCosign adds the manifests that cosign has stored under its own tags.
func (l *referrerList) readCosign(ctx context.Context) error {
	for _, kind := range cosignTags {
		if l.artifactType != "" && l.artifactType != kind.artifactType {
			continue
		}
		doc, err := l.tagged(ctx, referrersTag(l.subject)+kind.ending)
		if err != nil {
			return err
		}
		if doc.Body == nil || l.seen[doc.Desc.Digest] {
			continue
		}
		l.seen[doc.Desc.Digest] = true
		doc.Desc.ArtifactType = kind.artifactType
		doc.Desc.MediaType = cmp.Or(doc.Desc.MediaType, ocispec.MediaTypeImageManifest)
		l.found = append(l.found, doc.Desc)
	}
	return nil
}

// referrersTag returns the tag that replaces the referrers API for a digest in the distribution
// specification: at most 32 characters of the algorithm, a hyphen, and at most 64 characters of
// the hash.
func referrersTag(d digest.Digest) string {
	algorithm, hash, _ := strings.Cut(string(d), ":")
	return algorithm[:min(len(algorithm), 32)] + "-" + hash[:min(len(hash), 64)]
}

// tagged returns the document with a tag. It returns a document without a body if the tag does
// not exist.
func (l *referrerList) tagged(ctx context.Context, tag string) (content.Document, error) {
	doc, err := l.document(ctx, tag, "")
	if content.ReasonOf(err) == content.ErrNotFound {
		return content.Document{}, nil
	}
	return doc, err
}

func (l *referrerList) document(ctx context.Context, name string, pinned digest.Digest) (content.Document, error) {
	r := l.request
	r.kind, r.name, r.header = "manifests", name, http.Header{"Accept": {mediatype.Accept}}
	return l.ep.document(ctx, r, pinned)
}

// addIndex adds the entries of an index.
func (l *referrerList) addIndex(ctx context.Context, mediaType string, body []byte) error {
	if l.bytes += len(body); l.bytes > maxReferrerBytes {
		return l.failf(content.ErrTooLarge, "the list of referrers has more than %d bytes", maxReferrerBytes)
	}
	parsed, err := index.Parse(mediaType, body)
	var invalid *index.InvalidError
	switch {
	case errors.As(err, &invalid):
		return l.failf(content.Reason(invalid.Reason), "the list of referrers: %s", invalid.Detail)
	case err != nil:
		return l.failf(content.ErrBadIndex, "the list of referrers: %w", err)
	case parsed.Index == nil:
		return l.failf(content.ErrMediaType, "the list of referrers is a manifest, want an index")
	}
	if l.entries += len(parsed.Index.Manifests); l.entries > maxReferrers {
		return l.failf(content.ErrTooLarge, "the list of referrers has more than %d entries", maxReferrers)
	}
	for i, entry := range parsed.Index.Manifests {
		if err := verify.Digest(entry.Digest); err != nil {
			return l.failf(content.ErrBadDigest, "the list of referrers, manifests[%d]: %w", i, err)
		}
		if entry.Size < 0 {
			return l.failf(content.ErrBadIndex, "the list of referrers, manifests[%d]: size %d is negative", i, entry.Size)
		}
		if l.seen[entry.Digest] {
			continue
		}
		if l.artifactType != "" && noType(entry.ArtifactType) {
			if entry.ArtifactType, err = l.typeOf(ctx, entry); err != nil {
				return err
			}
		}
		if l.artifactType == "" || mediatype.Bare(entry.ArtifactType) == mediatype.Bare(l.artifactType) {
			l.seen[entry.Digest] = true
			l.found = append(l.found, entry)
		}
	}
	return nil
}

// failf returns the error of a document of the host, with secrets masked, because the document
// may repeat them.
func (l *referrerList) failf(reason content.Reason, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return fail(reason, l.ep.base.Host, &described{l.ep.client.mask(err.Error(), l.request.login.cred), err}, l.ep.secrets()...)
}

// noType reports whether the type in an entry is missing, or is the type of a config, which says
// nothing about the artifact.
func noType(artifactType string) bool {
	return artifactType == "" || mediatype.Bare(artifactType) == ocispec.MediaTypeEmptyJSON || mediatype.IsConfig(artifactType)
}

// typeOf reads the manifest of an entry and returns its type. It returns "" if the manifest does
// not refer to the subject, or does not exist.
func (l *referrerList) typeOf(ctx context.Context, entry ocispec.Descriptor) (string, error) {
	if l.untyped++; l.untyped > maxUntyped {
		return "", l.failf(content.ErrTooLarge, "more than %d entries in the list of referrers have no type", maxUntyped)
	}
	doc, err := l.document(ctx, string(entry.Digest), entry.Digest)
	if content.ReasonOf(err) == content.ErrNotFound {
		return "", nil // the list names something that was removed
	}
	if err != nil {
		return "", err
	}
	parsed, err := index.Parse(cmp.Or(entry.MediaType, doc.Desc.MediaType), doc.Body)
	switch {
	case err != nil:
		return "", l.failf(content.ErrBadManifest, "referrer %s: %w", entry.Digest, err)
	case parsed.Index != nil:
		if s := parsed.Index.Subject; s != nil && s.Digest == l.subject {
			return parsed.Index.ArtifactType, nil
		}
	default:
		if s := parsed.Manifest.Subject; s != nil && s.Digest == l.subject {
			return cmp.Or(parsed.Manifest.ArtifactType, parsed.Manifest.Config.MediaType), nil
		}
	}
	return "", nil
}

// nextPage returns the URL in the Link header that has the relation "next", or nil without such
// a URL. The URL must be at the origin that was asked, because the next request has the same
// Authorization.
func (a *answer) nextPage() (*url.URL, error) {
	link := nextLink(a.Header.Values("Link"))
	if link == "" {
		return nil, nil
	}
	u, err := a.url.Parse(link)
	switch {
	case err != nil:
		return nil, a.failf(content.ErrRedirect, "the URL of the next page, %s, is not a URL", quoteURL(link, a.secrets))
	case a.left || originOf(u) != originOf(a.home) || u.User != nil:
		return nil, a.failf(content.ErrForbiddenURL, "the next page is at %s, not at the registry", quote(u.Host, 200, a.secrets))
	}
	return u, nil
}

// nextLink returns the target of the first link with the relation "next" in Link headers
// (RFC 8288), or "" without such a link.
func nextLink(headers []string) string {
	for _, rest := range headers {
		for {
			_, after, ok := strings.Cut(rest, "<")
			if !ok {
				break
			}
			target, after, ok := strings.Cut(after, ">")
			if !ok {
				break
			}
			params, behind := cutUnquoted(after, ',')
			rest = behind
			for params != "" {
				var param string
				param, params = cutUnquoted(params, ';')
				name, value, _ := strings.Cut(param, "=")
				relations := strings.Fields(strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`)))
				if strings.EqualFold(strings.TrimSpace(name), "rel") && slices.Contains(relations, "next") {
					return strings.TrimSpace(target)
				}
			}
		}
	}
	return ""
}

// cutUnquoted cuts s at the first sep that is not within quotation marks.
func cutUnquoted(s string, sep byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
