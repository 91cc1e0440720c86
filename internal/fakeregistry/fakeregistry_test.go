package fakeregistry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParsePathFindsKindRepositoryAndReference(t *testing.T) {
	for path, want := range map[string]fakeregistry.Path{
		"/v2/":                             {Kind: fakeregistry.Root},
		"/v2":                              {Kind: fakeregistry.Root},
		"/token":                           {Kind: fakeregistry.Token},
		"/v2/team/app/manifests/v1":        {Kind: fakeregistry.Manifest, Repository: "team/app", Ref: "v1"},
		"/v2/team/app/blobs/sha256:00":     {Kind: fakeregistry.Blob, Repository: "team/app", Ref: "sha256:00"},
		"/v2/manifests/manifests/blobs":    {Kind: fakeregistry.Manifest, Repository: "manifests", Ref: "blobs"},
		"/v2/team/app/tags/list":           {Kind: fakeregistry.Tags, Repository: "team/app"},
		"/v2/team/app/referrers/sha256:00": {Kind: fakeregistry.Referrers, Repository: "team/app", Ref: "sha256:00"},
		"/v2/app":                          {},
		"/v1/team/app/manifests/v1":        {},
		"":                                 {},
	} {
		assert.Equal(t, want, fakeregistry.ParsePath(path), path)
	}
}

func TestContentServesRanges(t *testing.T) {
	c := fakeregistry.Content{MediaType: "text/plain", Digest: fakeregistry.SHA256([]byte("0123456789")), Data: []byte("0123456789")}
	req := httptest.NewRequest("GET", "/", nil)
	req.Header.Set("Range", "bytes=3-5")
	rec := httptest.NewRecorder()
	c.Serve(rec, req)
	assert.Equal(t, 206, rec.Code)
	assert.Equal(t, "345", rec.Body.String())
	assert.Equal(t, string(c.Digest), rec.Header().Get("Docker-Content-Digest"))

	rec = httptest.NewRecorder()
	fakeregistry.WriteError(rec, 401, "UNAUTHORIZED", "who are you", `Basic realm="x"`)
	assert.Equal(t, 401, rec.Code)
	assert.Equal(t, `Basic realm="x"`, rec.Header().Get("Www-Authenticate"))
	assert.JSONEq(t, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`, rec.Body.String())
}

// Equal numbers give the same layer, and other numbers another. The diff ID is the digest of
// the tar in it.
func TestLayersOfEqualNumbersAreEqual(t *testing.T) {
	first, diffID, err := fakeregistry.Layer(1000, 1, 2)
	require.NoError(t, err)
	again, _, err := fakeregistry.Layer(1000, 1, 2)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	for _, other := range [][2]uint64{{1, 3}, {2, 2}, {2, 1}} {
		data, _, err := fakeregistry.Layer(1000, other[0], other[1])
		require.NoError(t, err)
		assert.NotEqual(t, first, data)
	}
	z, err := gzip.NewReader(bytes.NewReader(first))
	require.NoError(t, err)
	plain, err := io.ReadAll(z)
	require.NoError(t, err)
	assert.Equal(t, fakeregistry.SHA256(plain), diffID)
	r := tar.NewReader(bytes.NewReader(plain))
	_, err = r.Next()
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Equal(t, fakeregistry.RandomBytes(1000, 1, 2), data)
}

func TestTheCertificateIsForTheHostAndLoopback(t *testing.T) {
	cert, ca, err := fakeregistry.ServerCertificate("registry.example:443")
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(ca))
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	require.NoError(t, err)
	for name, good := range map[string]bool{"registry.example": true, "localhost": true, "127.0.0.1": true, "other.example": false} {
		_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name})
		assert.Equal(t, good, err == nil, "%s: %v", name, err)
	}
}
