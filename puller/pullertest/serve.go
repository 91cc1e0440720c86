package pullertest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// ServeHTTP answers the pull half of the distribution API, and /token.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	what := parsePath(req.URL.Path)
	r.counts.arrived(req, what)
	cw := &countingWriter{ResponseWriter: w, counts: &r.counts, blob: what.kind == kindBlob}
	if what.kind == kindToken {
		if r.conf.Auth != AuthBearer {
			writeError(cw, 404, "UNSUPPORTED", "this registry gives no tokens", "")
			return
		}
		r.serveToken(cw, req)
		return
	}
	if no := r.admit(req, what.repository); no.status != 0 {
		writeError(cw, no.status, no.code, no.message, no.challenge)
		return
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		writeError(cw, 405, "UNSUPPORTED", "this registry is for pulling only", "")
		return
	}
	r.content.serve(cw, req, what)
}

// The kinds of addresses of the API.
type pathKind int

const (
	kindOther pathKind = iota
	kindRoot
	kindToken
	kindManifest
	kindBlob
	kindTags
)

// An apiPath is what a request's path asks for.
type apiPath struct {
	kind       pathKind
	repository string
	ref        string // tag or digest
}

func parsePath(path string) apiPath {
	switch path {
	case "/v2/", "/v2":
		return apiPath{kind: kindRoot}
	case "/token":
		return apiPath{kind: kindToken}
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return apiPath{}
	}
	if repository, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return apiPath{kind: kindTags, repository: repository}
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return apiPath{}
	}
	ref := rest[i+1:]
	if repository, ok := strings.CutSuffix(rest[:i], "/manifests"); ok {
		return apiPath{kindManifest, repository, ref}
	}
	if repository, ok := strings.CutSuffix(rest[:i], "/blobs"); ok {
		return apiPath{kindBlob, repository, ref}
	}
	return apiPath{}
}

// serve answers a request that is allowed.
func (c *contents) serve(w http.ResponseWriter, req *http.Request, what apiPath) {
	switch what.kind {
	case kindRoot:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		_, _ = w.Write([]byte("{}"))
	case kindTags:
		tags, ok := c.tags(what.repository)
		if !ok {
			writeError(w, 404, "NAME_UNKNOWN", "repository name not known to registry", "")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"name": what.repository, "tags": tags})
	case kindManifest:
		b, ok := c.manifest(what.repository, what.ref)
		if !ok {
			writeError(w, 404, "MANIFEST_UNKNOWN", "manifest unknown", "")
			return
		}
		serveBlob(w, req, b)
	case kindBlob:
		b, ok := c.blob(what.repository, what.ref)
		if !ok {
			writeError(w, 404, "BLOB_UNKNOWN", "blob unknown to registry", "")
			return
		}
		serveBlob(w, req, b)
	default:
		writeError(w, 404, "UNSUPPORTED", "no such address", "")
	}
}

func serveBlob(w http.ResponseWriter, req *http.Request, b blob) {
	w.Header().Set("Content-Type", b.mediaType)
	w.Header().Set("Docker-Content-Digest", string(b.digest))
	w.Header().Set("Etag", `"`+string(b.digest)+`"`)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(b.data))
}

// writeError answers as the distribution specification wants errors.
func writeError(w http.ResponseWriter, status int, code, message, challenge string) {
	if challenge != "" {
		w.Header().Set("Www-Authenticate", challenge)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	_ = json.NewEncoder(w).Encode(map[string][]entry{"errors": {{code, message}}})
}
