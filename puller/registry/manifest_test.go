package registry_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

func digestOf(s string) digest.Digest {
	return digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))))
}

// says returns a handler that answers with a body and headers.
func says(body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		text(body)(w, r)
	}
}

const (
	indexType    = ocispec.MediaTypeImageIndex
	manifestType = ocispec.MediaTypeImageManifest
	dockerType   = "application/vnd.docker.distribution.manifest.v2+json"
)

// parsed fetches a document as package transfer does: index.Parse judges the document by its
// bytes and the server's Content-Type.
func parsed(t *testing.T, c *registry.Client, ref string) (ocispec.Descriptor, []byte, error) {
	answer, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse(ref), Cred: noCredential}, "")
	if err != nil {
		assert.Nil(t, answer.Body)
		assert.Zero(t, answer.Desc)
		return answer.Desc, answer.Body, err
	}
	doc, err := index.Parse(answer.Desc.MediaType, answer.Body)
	var invalid *index.InvalidError
	if errors.As(err, &invalid) {
		return answer.Desc, answer.Body, content.Reason(invalid.Reason)
	}
	require.NoError(t, err)
	answer.Desc.MediaType = doc.MediaType
	return answer.Desc, answer.Body, nil
}

func TestManifestsAreCheckedForTypeSizeAndDigest(t *testing.T) {
	const layers = `{"schemaVersion":2,"config":{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"},"layers":[]`
	const wrong = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
	large := `{"schemaVersion":2,"x":"` + strings.Repeat("x", 4<<20) + `"}`
	for _, tt := range []struct {
		name   string
		ref    string
		answer http.HandlerFunc
		kind   content.Reason
		media  string
	}{
		{"index", "app:v1", says(manifestText, "Content-Type", indexType), "", indexType},
		{"type with parameters", "app:v1", says(manifestText, "Content-Type", indexType+"; charset=utf-8"), "", indexType},
		{"vague type", "app:v1", says(manifestText, "Content-Type", "application/json"), "", indexType},
		{"type only in the header", "app:v1", says(layers+`}`, "Content-Type", dockerType), "", dockerType},
		{"no type: an index by its members", "app:v1", says(`{"manifests":[]}`, "Content-Type", "text/plain"), "", indexType},
		{"no type: a manifest by its members", "app:v1", says(layers+`}`, "Content-Type", "text/plain"), "", manifestType},
		{"no type: members of both", "app:v1", says(`{"manifests":[],"layers":[]}`, "Content-Type", "text/plain"), content.ErrBadIndex, ""},
		{"Docker's type for OCI's index", "app:v1", says(manifestText, "Content-Type", "application/vnd.docker.distribution.manifest.list.v2+json"), "", indexType},
		{"OCI's type for Docker's manifest", "app:v1", says(layers+`,"mediaType":"`+dockerType+`"}`, "Content-Type", manifestType), "", dockerType},
		{"Docker's type of the other class", "app:v1", says(manifestText, "Content-Type", dockerType), content.ErrBadManifest, ""},
		{"types disagree", "app:v1", says(manifestText, "Content-Type", manifestType), content.ErrBadManifest, ""},
		{"schema 1", "app:v1", says(`{"schemaVersion":1}`, "Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws"), content.ErrMediaType, ""},
		{"captive portal", "app:v1", says("<html>", "Content-Type", "text/html"), content.ErrBadManifest, ""},
		{"empty", "app:v1", says("", "Content-Type", indexType), content.ErrBadManifest, ""},
		{"two documents", "app:v1", says(manifestText+manifestText, "Content-Type", indexType), content.ErrBadManifest, ""},
		{"mediaType twice", "app:v1", says(`{"mediaType":"a","mediaType":"b"}`, "Content-Type", indexType), content.ErrBadIndex, ""},
		{"a page's type for an index", "app:v1", says(manifestText, "Content-Type", "text/html"), "", indexType},
		{"a type of something else", "app:v1", says(`{}`, "Content-Type", "text/html"), content.ErrMediaType, ""},
		{"too large", "app:v1", says(large, "Content-Type", indexType), content.ErrTooLarge, ""},
		{"packed", "app:v1", says("x", "Content-Type", indexType, "Content-Encoding", "gzip"), content.ErrContentEncoding, ""},
		{"digest header", "app:v1", says(manifestText, "Content-Type", indexType, "Docker-Content-Digest", string(digestOf(manifestText))), "", indexType},
		{"digest header is wrong", "app:v1", says(manifestText, "Content-Type", indexType, "Docker-Content-Digest", wrong), content.ErrDigestMismatch, ""},
		{"digest header is not a digest", "app:v1", says(manifestText, "Content-Type", indexType, "Docker-Content-Digest", "sha256:../../x"), content.ErrBadDigest, ""},
		{"pinned", "app@" + string(digestOf(manifestText)), says(manifestText, "Content-Type", indexType), "", indexType},
		{"pinned, and tagged", "app:v7@" + string(digestOf(manifestText)), says(manifestText, "Content-Type", indexType), "", indexType},
		{"pinned, other content", "app@" + wrong, says(manifestText, "Content-Type", indexType, "Docker-Content-Digest", wrong), content.ErrDigestMismatch, ""},
		{"206", "app:v1", status(206), content.ErrStatus, ""},
		{"204", "app:v1", status(204), content.ErrStatus, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(map[string]http.HandlerFunc{"https://reg.example": tt.answer})
			desc, body, err := parsed(t, newClient(t, registry.Config{WrapTransport: instead(w)}), "reg.example/"+tt.ref)
			assert.Len(t, w.asked(), 1)
			if tt.kind != "" {
				assert.ErrorIs(t, err, tt.kind)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, ocispec.Descriptor{MediaType: tt.media, Digest: digestOf(string(body)), Size: int64(len(body))}, desc)
		})
	}
}

// The error of a document that is not a manifest has the server's Content-Type in it, once,
// if that may explain the fault.
func TestTheErrorHasTheContentTypeOfABadManifest(t *testing.T) {
	const digest = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
	for _, tt := range []struct {
		ref         string
		body, named string
		want        string
	}{
		{"app:v1", "<html>", "text/html", `bad manifest: the document is not a JSON object (the server calls it "text/html")`},
		{"app:v1", "<html>", "Text/HTML; charset=utf-8", `bad manifest: the document is not a JSON object (the server calls it "text/html")`},
		{"app:v1", "[]", "application/json", `bad manifest: the document is not a JSON object (the server calls it "application/json")`},
		{"app:v1", "<html>", "", `bad manifest: the document is not a JSON object`},
		{"app:v1", "", indexType, `bad manifest: the document is not a JSON object`},
		{"app:v1", "x", "a\x1b[2Js3cret-pass;", `bad manifest: the document is not a JSON object (the server calls it "a\x1b[2j[redacted]")`},
		{"app:v1", "x", strings.Repeat("x", 1000), `bad manifest: the document is not a JSON object (the server calls it "` + strings.Repeat("x", 100) + `"...)`},
		{"app:v1", manifestText[:len(manifestText)-1], indexType, `bad manifest: the document is not a JSON object`},
		{"app@" + digest, "<html>", "text/html", `digest mismatch: the document of 6 bytes is not ` + digest + ` (the server calls it "text/html")`},
		{"app@" + digest, "{}", indexType, `digest mismatch: the document of 2 bytes is not ` + digest},
	} {
		answer := func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{tt.named}
			fmt.Fprint(w, tt.body)
		}
		w := newWorld(map[string]http.HandlerFunc{"https://reg.example": answer})
		_, err := newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/" + tt.ref), Cred: robot}, "")
		assert.EqualError(t, err, "reg.example: "+tt.want, "%q", tt.named)
	}
}

func TestOneHEADIsEnoughForAnUnchangedManifest(t *testing.T) {
	have := digestOf(manifestText)
	const head, get = "HEAD https://reg.example/v2/app/manifests/v1", "GET https://reg.example/v2/app/manifests/v1"
	byHead := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				h(w, r)
				return
			}
			serveAll(w, r)
		}
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		kind   content.Reason
		asked  []string
		noBody bool
	}{
		{"still the same", status(200, "Docker-Content-Digest", string(have), "Content-Type", indexType, "Content-Length", "12"), "", []string{head}, true},
		{"another", byHead(status(200, "Docker-Content-Digest", string(digestOf("x")))), "", []string{head, get}, false},
		{"no digest in the answer", byHead(status(200)), "", []string{head, get}, false},
		{"HEAD not known", byHead(status(405)), "", []string{head, get}, false},
		{"not found", status(404), content.ErrNotFound, []string{head, get}, false},
		{"denied", status(403), content.ErrDenied, []string{head, get}, false},
		{"too many requests", status(429, "Retry-After", "3600"), content.ErrRateLimited, []string{head}, false},
	} {
		w := newWorld(map[string]http.HandlerFunc{"https://reg.example": tt.answer})
		doc, err := newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, have)
		assert.Equal(t, tt.kind, content.ReasonOf(err), tt.name)
		assert.Equal(t, tt.asked, w.asked(), tt.name)
		if err == nil {
			assert.Equal(t, tt.noBody, doc.Body == nil, tt.name)
			assert.Equal(t, have, doc.Desc.Digest, tt.name)
			assert.Equal(t, indexType, doc.Desc.MediaType, tt.name)
		}
	}
}

func TestBadNamesDigestsAndRangesAreNotRequested(t *testing.T) {
	c := newClient(t, registry.Config{WrapTransport: instead(newWorld(nil))})
	ref := reference.MustParse("reg.example/app:v1")
	_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.Reference{}, Cred: noCredential}, "")
	assert.ErrorIs(t, err, content.ErrBadReference)
	for _, tt := range []struct {
		desc   ocispec.Descriptor
		off, n int64
		want   content.Reason
	}{
		{ocispec.Descriptor{Digest: "sha256:../x", Size: 5}, 0, -1, content.ErrBadDigest},
		{ocispec.Descriptor{Digest: "md5:00000000000000000000000000000000", Size: 5}, 0, -1, content.ErrBadDigest},
		{ocispec.Descriptor{Digest: digestOf("x"), Size: -1}, 0, -1, content.ErrSizeMismatch},
		{ocispec.Descriptor{Digest: digestOf("x"), Size: 5}, 6, -1, content.ErrSizeMismatch},
		{ocispec.Descriptor{Digest: digestOf("x"), Size: 5}, -1, -1, content.ErrSizeMismatch},
	} {
		_, err := c.Blob(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, tt.desc, tt.off, tt.n)
		assert.ErrorIs(t, err, tt.want)
	}
	body, err := c.Blob(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, ocispec.Descriptor{Digest: digestOf("x"), Size: 5}, 5, -1)
	require.NoError(t, err, "no request is made for no bytes")
	assert.EqualValues(t, 5, body.Start)
	assert.NoError(t, body.Close())
}

func TestErrorsHaveStatusCodesAndRetryAfter(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7200")
		w.WriteHeader(429)
		fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"you sent Basic cm9ib3Q6czNjcmV0LXBhc3M= and s3cret-pass\u001b[2J\n","detail":{}},{"code":7}]}`)
	}
	w := newWorld(map[string]http.HandlerFunc{"https://reg.example": signedIn("Basic realm=r", answer)})
	_, err := newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}, "")
	var e *content.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, 429, e.Status)
	assert.Equal(t, []string{"TOOMANYREQUESTS"}, e.Codes)
	assert.Equal(t, 2*time.Hour, e.RetryAfter)
	assert.Equal(t, `rate limited: GET https://reg.example/v2/app/manifests/v1: 429 Too Many Requests: TOOMANYREQUESTS: you sent Basic [redacted] and [redacted]\x1b[2J`, err.Error())

	w = newWorld(map[string]http.HandlerFunc{"https://reg.example": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7200") // a 404 has no Retry-After, so the header is ignored
		w.WriteHeader(404)
		for range 100 {
			fmt.Fprint(w, strings.Repeat("x", 10<<10))
		}
	}})
	_, err = newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}, "")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.Less(t, len(err.Error()), 300, "200 characters of the body")
	require.ErrorAs(t, err, &e)
	assert.Zero(t, e.RetryAfter)
	assert.Equal(t, 404, e.Status)
	assert.Empty(t, e.Codes)

	w = newWorld(map[string]http.HandlerFunc{"https://reg.example": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(412)
		fmt.Fprint(w, `{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"an image with vulnerabilities\u001b is not to be had"}]}`)
	}})
	_, err = newClient(t, registry.Config{WrapTransport: instead(w)}).Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}, "")
	assert.ErrorIs(t, err, content.ErrStatus)
	assert.EqualError(t, err, `unexpected status: GET https://reg.example/v2/app/manifests/v1: 412 Precondition Failed: `+
		`PROJECTPOLICYVIOLATION: an image with vulnerabilities\x1b is not to be had`)
	assert.Len(t, w.asked(), 1, "the request is not made again")

	w = newWorld(map[string]http.HandlerFunc{"https://reg.example": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(403)
		fmt.Fprint(w, `{"errors":[{"code":"TOOMANYREQUESTS"}]}`)
	}})
	c := newClient(t, registry.Config{WrapTransport: instead(w), Retries: -1})
	_, err = c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: robot}, "")
	assert.ErrorIs(t, err, content.ErrRateLimited, "the code counts, for each status")
}
