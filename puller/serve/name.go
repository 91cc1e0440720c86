package serve

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/verify"
	"github.com/pullkit/pullkit/reference"
)

// A target is the content that the path of a request names.
type target struct {
	blob   bool                // it is a blob; otherwise a manifest or an index
	repo   reference.Reference // the repository; its tag does not count
	tag    string
	digest digest.Digest // "" if tag is set
}

// ref returns the name of a manifest or an index.
func (t target) ref() (reference.Reference, error) {
	if t.digest == "" {
		return t.repo.WithTag(t.tag)
	}
	ref, err := t.repo.WithDigest(t.digest)
	return ref.WithoutTag(), err
}

// An endpoint is a kind of path of the API.
type endpoint int

const (
	endpointNone      endpoint = iota // not a path of the API
	endpointRoot                      // /v2/
	endpointContent                   // a manifest, an index or a blob
	endpointReferrers                 // not served; clients look for a tag instead
	endpointOther                     // a path of the API that is not for pulls
)

// splitPath returns the parts of a path of the API: its kind, the repository, whether it
// asks for a blob, and the digest or the tag.
func splitPath(path string) (what endpoint, repository string, blob bool, name string) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/v2" || path == "/v2/":
		return endpointRoot, "", false, ""
	case !ok:
		return endpointNone, "", false, ""
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return endpointOther, "", false, ""
	}
	dir, name := rest[:i], rest[i+1:]
	if repository, ok := strings.CutSuffix(dir, "/manifests"); ok && name != "" {
		return endpointContent, repository, false, name
	}
	if repository, ok := strings.CutSuffix(dir, "/blobs"); ok && name != "" && name != "uploads" {
		return endpointContent, repository, true, name
	}
	if strings.HasSuffix(dir, "/referrers") {
		return endpointReferrers, "", false, ""
	}
	return endpointOther, "", false, ""
}

// A nameError says which part of a request's name is wrong.
type nameError struct {
	code string // the error code of the distribution specification
	err  error
}

func (e *nameError) Error() string { return e.err.Error() }

// maxShown is how many bytes of a name from a client an answer or a log has.
const maxShown = 300

func badName(code, format string, args ...any) error {
	return &nameError{code, fmt.Errorf(format, args...)}
}

// parseTarget returns the content that a request asks for. repository, blob and name are
// results of splitPath, and query is the query of the request.
func (h *Handler) parseTarget(repository string, blob bool, name string, query url.Values) (target, error) {
	t := target{blob: blob}
	repo, err := h.parseRepository(repository, query)
	if err != nil {
		return t, err
	}
	t.repo = repo
	if blob || strings.Contains(name, ":") {
		t.digest = digest.Digest(name)
		if err := verify.Digest(t.digest); err != nil {
			return t, badName("DIGEST_INVALID", "%s", redact.Cut(err.Error(), maxShown))
		}
		return t, nil
	}
	t.tag = name
	if _, err := repo.WithTag(name); err != nil {
		return t, badName("MANIFEST_INVALID", "the tag %s is not valid", redact.Quote(name, maxShown))
	}
	return t, nil
}

// parseRepository returns the repository of a request. Its registry is the parameter ns.
// Without ns, it is the registry at the start of the path. Without both, it is
// Config.DefaultRegistry.
func (h *Handler) parseRepository(repository string, query url.Values) (reference.Reference, error) {
	ns := query["ns"]
	switch {
	case len(ns) > 1:
		return reference.Reference{}, badName("NAME_INVALID", "the URL has the parameter ns %d times", len(ns))
	case len(ns) == 1:
		return inRegistry(ns[0], repository)
	}
	if first, rest, ok := strings.Cut(repository, "/"); ok {
		if registry, ok := registryInPath(first); ok {
			return inRegistry(registry, rest)
		}
	}
	return inRegistry(h.defaultRegistry, repository)
}

// registryInPath returns the registry that the first part of a path names. It is a
// registry if it is localhost or has a dot. A path cannot have a colon, so a port follows
// an underscore.
func registryInPath(first string) (registry string, ok bool) {
	host, port, ported := strings.Cut(first, "_")
	if !strings.Contains(host, ".") && host != "localhost" {
		return "", false
	}
	if !ported {
		return host, true
	}
	if port == "" || strings.Trim(port, "0123456789") != "" {
		return "", false
	}
	return host + ":" + port, true
}

// inRegistry returns the name of a repository in a registry.
func inRegistry(registry, repository string) (reference.Reference, error) {
	if err := checkRegistry(registry); err != nil {
		return reference.Reference{}, badName("NAME_INVALID", "the registry %s: %w", redact.Quote(registry, maxShown), err)
	}
	ref, err := reference.Parse(registry + "/" + repository)
	if err != nil || ref.Tag() != "latest" || ref.Digest() != "" || strings.ContainsAny(repository, ":@") {
		return reference.Reference{}, badName("NAME_INVALID", "the repository %s is not valid", redact.Quote(repository, maxShown))
	}
	return ref, nil
}

// checkRegistry returns an error if a text is not a registry in the form that image names
// have.
func checkRegistry(registry string) error {
	ref, err := reference.Parse(registry + "/a/b")
	if err != nil || ref.Repository() != "a/b" {
		return errors.New("it is not a registry in the form of image names, such as docker.io or registry.example:5000")
	}
	return nil
}
