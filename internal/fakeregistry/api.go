package fakeregistry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Kind is what a request's path asks for.
type Kind int

// The kinds.
const (
	Other Kind = iota
	Root
	Token
	Manifest
	Blob
	Tags
	Referrers
)

// A Path is a path of the distribution API, or /token.
type Path struct {
	Kind       Kind
	Repository string
	Ref        string // tag or digest
}

// ParsePath reads the path of a request.
func ParsePath(path string) Path {
	switch path {
	case "/v2/", "/v2":
		return Path{Kind: Root}
	case "/token":
		return Path{Kind: Token}
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return Path{}
	}
	if repository, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return Path{Kind: Tags, Repository: repository}
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return Path{}
	}
	ref := rest[i+1:]
	if repository, ok := strings.CutSuffix(rest[:i], "/manifests"); ok {
		return Path{Manifest, repository, ref}
	}
	if repository, ok := strings.CutSuffix(rest[:i], "/blobs"); ok {
		return Path{Blob, repository, ref}
	}
	if repository, ok := strings.CutSuffix(rest[:i], "/referrers"); ok {
		return Path{Referrers, repository, ref}
	}
	return Path{}
}

// Content is a blob or a manifest with its type.
type Content struct {
	MediaType string
	Digest    digest.Digest
	Data      []byte
}

// Serve answers a request for the content. It obeys a Range header.
func (c Content) Serve(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", c.MediaType)
	w.Header().Set("Docker-Content-Digest", string(c.Digest))
	w.Header().Set("Etag", `"`+string(c.Digest)+`"`)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(c.Data))
}

// WriteError answers with an error in the form of the distribution specification.
// challenge is the WWW-Authenticate header; "" sends none.
func WriteError(w http.ResponseWriter, status int, code, message, challenge string) {
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

// SHA256 returns the digest of data.
func SHA256(data []byte) digest.Digest {
	sum := sha256.Sum256(data)
	return digest.Digest("sha256:" + hex.EncodeToString(sum[:]))
}
