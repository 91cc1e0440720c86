package serve_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func sha256Of(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// A pulled image is served by its tag and by its digests, with the headers that the
// specification and the clients need.
func TestAPulledImageIsServed(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{amd64, arm64}, Layers: []int64{300_000}})
	n := newNode(t, registry.Config{}, nil)
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	s := n.serves(t, reg.Host(), serve.Config{})

	root := s.ask(http.MethodGet, "/v2/")
	assert.Equal(t, http.StatusOK, root.StatusCode)
	assert.Equal(t, "registry/2.0", root.Header.Get("Docker-Distribution-Api-Version"))
	assert.Equal(t, http.StatusOK, s.get("/v2"))

	type what struct {
		path, mediaType, digest string
		size                    int64
	}
	index, leaf, layer := image.Descriptor, image.Manifests[0], image.Blobs[1]
	for name, w := range map[string]what{
		"the index by tag":       {under("team/app", "manifests", "v1"), index.MediaType, string(index.Digest), index.Size},
		"the index by digest":    {under("team/app", "manifests", index), index.MediaType, string(index.Digest), index.Size},
		"the manifest by digest": {under("team/app", "manifests", leaf), leaf.MediaType, string(leaf.Digest), leaf.Size},
		"the config":             {under("team/app", "blobs", image.Blobs[0]), "application/octet-stream", string(image.Blobs[0].Digest), image.Blobs[0].Size},
		"a layer":                {under("team/app", "blobs", layer), "application/octet-stream", string(layer.Digest), layer.Size},
	} {
		t.Run(name, func(t *testing.T) {
			s := server{s.Server, t}
			full := s.ask(http.MethodGet, w.path)
			require.NoError(t, full.err)
			assert.Equal(t, http.StatusOK, full.StatusCode)
			assert.Equal(t, w.digest, sha256Of(full.body))
			for method, a := range map[string]answer{"GET": full, "HEAD": s.ask(http.MethodHead, w.path)} {
				assert.Equal(t, http.StatusOK, a.StatusCode, method)
				assert.Equal(t, w.mediaType, a.Header.Get("Content-Type"), method)
				assert.Equal(t, w.size, a.ContentLength, method)
				assert.Equal(t, w.digest, a.Header.Get("Docker-Content-Digest"), method)
				assert.Equal(t, `"`+w.digest+`"`, a.Header.Get("Etag"), method)
				assert.Equal(t, "bytes", a.Header.Get("Accept-Ranges"), method)
			}
			part := s.ask(http.MethodGet, w.path, "Range", "bytes=10-19")
			assert.Equal(t, http.StatusPartialContent, part.StatusCode)
			assert.Equal(t, full.body[10:20], part.body)
			assert.Equal(t, "bytes 10-19/"+strconv.FormatInt(w.size, 10), part.Header.Get("Content-Range"))
			assert.Equal(t, full.body[len(full.body)-5:], s.ask(http.MethodGet, w.path, "Range", "bytes=-5").body)
			assert.Equal(t, full.body[20:], s.ask(http.MethodGet, w.path, "Range", "bytes=20-").body)
			two := s.ask(http.MethodGet, w.path, "Range", "bytes=0-1,30-31")
			assert.Equal(t, http.StatusPartialContent, two.StatusCode)
			assert.Contains(t, two.body, full.body[30:32])
			assert.Equal(t, http.StatusRequestedRangeNotSatisfiable, s.ask(http.MethodGet, w.path, "Range", "bytes="+strconv.FormatInt(w.size, 10)+"-").StatusCode)
			same, other := `"`+w.digest+`"`, `"`+sha256Of("x")+`"`
			assert.Equal(t, http.StatusNotModified, s.ask(http.MethodGet, w.path, "If-None-Match", same).StatusCode)
			assert.Equal(t, http.StatusNotModified, s.ask(http.MethodHead, w.path, "If-None-Match", other+", "+same).StatusCode)
			assert.Equal(t, http.StatusOK, s.ask(http.MethodGet, w.path, "If-None-Match", other).StatusCode)
			assert.Equal(t, http.StatusPreconditionFailed, s.ask(http.MethodGet, w.path, "If-Match", other).StatusCode)
			assert.Equal(t, http.StatusPartialContent, s.ask(http.MethodGet, w.path, "Range", "bytes=0-1", "If-Range", same).StatusCode)
			assert.Equal(t, http.StatusOK, s.ask(http.MethodGet, w.path, "Range", "bytes=0-1", "If-Range", other).StatusCode)
		})
	}
	assert.Equal(t, "no-cache", s.ask(http.MethodGet, under("team/app", "manifests", "v1")).Header.Get("Cache-Control"))
	assert.Contains(t, s.ask(http.MethodGet, under("team/app", "blobs", layer)).Header.Get("Cache-Control"), "immutable")

	// The manifest of the other platform was not pulled.
	assert.Equal(t, "MANIFEST_UNKNOWN", s.ask(http.MethodGet, under("team/app", "manifests", image.Manifests[1])).code(t))
}

// Every request that does not read content is refused in the form of the specification.
func TestOtherRequestsAreRefused(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	n := newNode(t, registry.Config{}, nil)
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	s := n.serves(t, reg.Host(), serve.Config{})
	layer, long := string(image.Blobs[1].Digest), strings.Repeat("a", 300)
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"PUT", "/v2/team/app/manifests/v1", 405, "UNSUPPORTED"},
		{"DELETE", "/v2/team/app/manifests/v1", 405, "UNSUPPORTED"},
		{"POST", "/v2/team/app/blobs/uploads/", 405, "UNSUPPORTED"},
		{"PATCH", "/v2/team/app/blobs/uploads/1", 405, "UNSUPPORTED"},
		{"POST", "/v2/", 405, "UNSUPPORTED"},
		{"OPTIONS", "/v2/", 405, "UNSUPPORTED"},
		{"GET", "/v2/team/app/tags/list", 405, "UNSUPPORTED"},
		{"GET", "/v2/_catalog", 405, "UNSUPPORTED"},
		{"GET", "/v2/team/app/blobs/uploads", 405, "UNSUPPORTED"},
		{"GET", "/v2/team/app/referrers/" + layer, 404, "UNSUPPORTED"}, // 404 makes clients look for a tag
		{"GET", "/", 404, "UNSUPPORTED"},
		{"GET", "/v1/search", 404, "UNSUPPORTED"},
		{"GET", "/v2/team/app/manifests/v2", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/team/app/manifests/" + layer, 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/team/other/manifests/v1", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/team/app/blobs/" + sha256Of("x"), 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/team/other/blobs/" + layer, 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/team/app/blobs/" + string(image.Descriptor.Digest), 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/team/app/blobs/v1", 400, "DIGEST_INVALID"},
		{"GET", "/v2/team/app/blobs/sha256:" + long, 400, "DIGEST_INVALID"},
		{"GET", "/v2/team/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"},
		{"GET", "/v2/team/app/manifests/sha256:00", 400, "DIGEST_INVALID"},
		{"GET", "/v2/team/app/manifests/-v1", 400, "MANIFEST_INVALID"},
		{"GET", "/v2/team/app/manifests/" + long, 400, "MANIFEST_INVALID"},
		{"GET", "/v2/Team/app/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/team//app/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/../app/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/team%2f..%2fapp/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/" + long + "/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app:v1/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app@" + layer + "/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app/manifests/v1?ns=", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app/manifests/v1?ns=a/b", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app/manifests/v1?ns=http://x.example", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app/manifests/v1?ns=a.example&ns=b.example", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app/manifests/v1?ns=%00", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app/manifests/v1?ns=a.example;x", 400, "NAME_INVALID"},
		{"GET", "/v2/team/app/manifests/v1?ns=a.example%zz", 400, "NAME_INVALID"},
	} {
		t.Run(tt.method+" "+tt.path[:min(60, len(tt.path))], func(t *testing.T) {
			s := server{s.Server, t}
			a := s.ask(tt.method, tt.path)
			assert.Equal(t, tt.status, a.StatusCode)
			assert.Equal(t, tt.code, a.code(t))
			assert.Less(t, len(a.body), 1000)
			assert.Empty(t, a.Header.Get("Docker-Content-Digest"))
			assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
			if _, ok := a.Header["Allow"]; assert.Equal(t, tt.status == 405, ok) && ok && tt.method != "GET" {
				assert.Equal(t, "GET, HEAD", a.Header.Get("Allow"))
			}
		})
	}
	head := s.ask(http.MethodHead, "/v2/team/app/manifests/v2")
	assert.Equal(t, 404, head.StatusCode)
	assert.Empty(t, head.body)
}

// The registry of a request is the parameter ns, or the registry in the path, or else the
// default registry.
func TestNamesWithoutNsAreInTheDefaultRegistry(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	put(t, reg, "team/app:v1", pullertest.ImageSpec{Layers: []int64{1000}})
	n := newNode(t, registry.Config{}, nil)
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	s := n.serves(t, "", serve.Config{})
	inPath := strings.ReplaceAll(reg.Host(), ":", "_")
	for path, want := range map[string]int{
		"/v2/team/app/manifests/v1?ns=" + reg.Host():                     200,
		"/v2/" + inPath + "/team/app/manifests/v1":                       200,
		"/v2/team/app/manifests/v1":                                      404, // docker.io
		"/v2/team/app/manifests/v1?ns=docker.io":                         404,
		"/v2/" + inPath + "/team/app/manifests/v1?ns=" + reg.Host():      404, // ns counts, and the path is all repository
		"/v2/" + inPath + "x/team/app/manifests/v1":                      404,
		"/v2/localhost/team/app/manifests/v1":                            404,
		"/v2/team/app/manifests/v1?ns=" + strings.ToUpper("localhost:1"): 404,
	} {
		assert.Equal(t, want, s.get(path), path)
	}
	s = n.serves(t, reg.Host(), serve.Config{})
	assert.Equal(t, 200, s.get("/v2/team/app/manifests/v1"))
	assert.Equal(t, 404, s.get("/v2/team/app/manifests/v1?ns=docker.io"))
}

func TestNewNamesTheFieldThatIsWrong(t *testing.T) {
	n := newNode(t, registry.Config{}, nil)
	for want, conf := range map[string]serve.Config{
		"Config.Store":             {Records: n.dir},
		"Config.Records":           {Store: n.store},
		"Config.PullFrom is set":   {Store: n.store, Records: n.dir, PullFrom: []string{"docker.io"}},
		"Config.PullFrom is empty": {Store: n.store, Records: n.dir, Puller: n.Puller},
		`PullFrom has "a/b"`:       {Store: n.store, Records: n.dir, Puller: n.Puller, PullFrom: []string{"a/b"}},
		"Config.Parallel":          {Store: n.store, Records: n.dir, Parallel: -1},
		"Config.StallTimeout":      {Store: n.store, Records: n.dir, StallTimeout: -1},
		"Config.PullTimeout":       {Store: n.store, Records: n.dir, PullTimeout: -1},
		"Config.DefaultRegistry":   {Store: n.store, Records: n.dir, DefaultRegistry: "x"},
	} {
		_, err := serve.New(conf)
		assert.ErrorContains(t, err, want)
	}
}
