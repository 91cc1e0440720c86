package pullertest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// start starts a registry with team/app:v1 in it.
func start(t *testing.T, conf Config) (*Registry, PutResult) {
	t.Helper()
	reg, err := Start(conf)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, reg.Close()) })
	put, err := reg.PutImage("team/app:v1", ImageSpec{
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}},
		Layers:    []int64{100_000, 3},
		Seed:      7,
	})
	require.NoError(t, err)
	return reg, put
}

// client returns an http.Client for the registry.
func client(t *testing.T, reg *Registry) *http.Client {
	t.Helper()
	transport := &http.Transport{ForceAttemptHTTP2: true}
	if reg.conf.Network != nil {
		transport.DialContext = reg.conf.Network.DialContext
	}
	if reg.CA() != nil {
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(reg.CA()))
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

type answer struct {
	*http.Response
	body string
}

func ask(t *testing.T, c *http.Client, method, url string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return answer{resp, string(body)}
}

func TestARegistryServesImagesByTheDistributionAPI(t *testing.T) {
	for _, conf := range []Config{{}, {TLS: true}, {Network: &Network{}}, {Network: &Network{}, TLS: true, Addr: "registry.example:443"}} {
		reg, put := start(t, conf)
		c := client(t, reg)
		base := reg.URL() + "/v2/team/app"

		for _, ref := range []string{"v1", string(put.Descriptor.Digest)} {
			for _, method := range []string{"GET", "HEAD"} {
				got := ask(t, c, method, base+"/manifests/"+ref)
				assert.Equal(t, 200, got.StatusCode)
				assert.Equal(t, ocispec.MediaTypeImageIndex, got.Header.Get("Content-Type"))
				assert.Equal(t, string(put.Descriptor.Digest), got.Header.Get("Docker-Content-Digest"))
				assert.Equal(t, put.Descriptor.Size, got.ContentLength)
				if method == "GET" {
					assert.Equal(t, put.Descriptor.Digest, fakeregistry.SHA256([]byte(got.body)))
				}
			}
		}
		var manifest ocispec.Manifest
		require.NoError(t, json.Unmarshal([]byte(ask(t, c, "GET", base+"/manifests/"+string(put.Manifests[1].Digest)).body), &manifest))
		layer := manifest.Layers[0]
		whole := ask(t, c, "GET", base+"/blobs/"+string(layer.Digest))
		assert.Equal(t, layer.Digest, fakeregistry.SHA256([]byte(whole.body)))
		assert.Equal(t, layer.Size, ask(t, c, "HEAD", base+"/blobs/"+string(layer.Digest)).ContentLength)
		part := ask(t, c, "GET", base+"/blobs/"+string(layer.Digest), "Range", "bytes=100-199")
		assert.Equal(t, 206, part.StatusCode)
		assert.Equal(t, whole.body[100:200], part.body)
		assert.Equal(t, 416, ask(t, c, "GET", base+"/blobs/"+string(layer.Digest), "Range", "bytes=999999-").StatusCode)
		assert.JSONEq(t, `{"name":"team/app","tags":["v1"]}`, ask(t, c, "GET", base+"/tags/list").body)
		if conf.TLS {
			assert.Equal(t, "HTTP/2.0", whole.Proto)
		}

		counts := reg.Counts()
		assert.Equal(t, 2, counts.ManifestHead)
		assert.Equal(t, 3, counts.ManifestGet)
		assert.Equal(t, 3, counts.BlobGet)
		assert.Equal(t, 2, counts.BlobRange)
		assert.Equal(t, 1, counts.BlobHead)
		assert.Equal(t, layer.Size+100, counts.BlobBytes)
		assert.Equal(t, 10, counts.Total())
		reg.ResetCounts()
		assert.Zero(t, reg.Counts())
	}
}

// A list of referrers has the manifests whose subject is the digest, and only those of the
// type that is asked for.
func TestReferrersAreListed(t *testing.T) {
	reg, put := start(t, Config{})
	c := client(t, reg)
	sig := reg.PutManifest("team/app", ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"artifactType": "application/vnd.example.signature", "subject": {"digest": %q}}`, put.Descriptor.Digest))
	sbom := reg.PutManifest("team/app", ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"config": {"mediaType": "application/spdx+json"}, "subject": {"digest": %q}}`, put.Descriptor.Digest))
	reg.PutManifest("team/app", ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"subject": {"digest": %q}}`, sig.Digest))
	sig.ArtifactType, sbom.ArtifactType = "application/vnd.example.signature", "application/spdx+json"
	list := func(path string) []ocispec.Descriptor {
		got := ask(t, c, "GET", reg.URL()+"/v2/"+path)
		assert.Equal(t, 200, got.StatusCode)
		assert.Equal(t, ocispec.MediaTypeImageIndex, got.Header.Get("Content-Type"))
		var idx ocispec.Index
		require.NoError(t, json.Unmarshal([]byte(got.body), &idx))
		assert.NotNil(t, idx.Manifests)
		return idx.Manifests
	}
	about := "team/app/referrers/" + string(put.Descriptor.Digest)
	assert.ElementsMatch(t, []ocispec.Descriptor{sig, sbom}, list(about))
	assert.Equal(t, []ocispec.Descriptor{sig}, list(about+"?artifactType=application/vnd.example.signature"))
	assert.Empty(t, list("team/app/referrers/"+string(sbom.Digest)))
	assert.Empty(t, list("other/referrers/"+string(sbom.Digest)))
	assert.Equal(t, 4, reg.Counts().Referrers)
}

func TestErrorsHaveTheCodesOfTheDistributionAPI(t *testing.T) {
	reg, put := start(t, Config{NoReferrers: true})
	c := client(t, reg)
	absent := "sha256:" + strings.Repeat("0", 64)
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/team/app/manifests/v2", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/team/app/manifests/" + absent, 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/team/app/blobs/" + absent, 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/team/app/blobs/" + string(put.Descriptor.Digest), 404, "BLOB_UNKNOWN"},
		{"GET", "/v2/other/manifests/v1", 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/other/tags/list", 404, "NAME_UNKNOWN"},
		{"GET", "/v2/team/app/referrers/" + absent, 404, "UNSUPPORTED"},
		{"GET", "/", 404, "UNSUPPORTED"},
		{"GET", "/token", 404, "UNSUPPORTED"},
		{"POST", "/v2/team/app/blobs/uploads/", 405, "UNSUPPORTED"},
	} {
		got := ask(t, c, tt.method, reg.URL()+tt.path)
		assert.Equal(t, tt.status, got.StatusCode, "%s %s", tt.method, tt.path)
		var body struct {
			Errors []struct{ Code, Message string }
		}
		require.NoError(t, json.Unmarshal([]byte(got.body), &body), "%s %s", tt.method, tt.path)
		require.Len(t, body.Errors, 1)
		assert.Equal(t, tt.code, body.Errors[0].Code, "%s %s", tt.method, tt.path)
		assert.NotEmpty(t, body.Errors[0].Message)
	}
	reg.Remove("team/app:v1")
	assert.Equal(t, 404, ask(t, c, "GET", reg.URL()+"/v2/team/app/manifests/v1").StatusCode)
	assert.Equal(t, 200, ask(t, c, "GET", reg.URL()+"/v2/team/app/manifests/"+string(put.Descriptor.Digest)).StatusCode)
	reg.Remove("team/app@" + string(put.Blobs[0].Digest))
	assert.Equal(t, 404, ask(t, c, "GET", reg.URL()+"/v2/team/app/blobs/"+string(put.Blobs[0].Digest)).StatusCode)
}

var users = []User{
	{Name: "robot", Password: "right", IdentityToken: "refresh"},
	{Name: "other", Password: "right", Repositories: []string{"other/app"}},
	{Repositories: []string{"public"}},
}

func TestBasicAuthChecksUserAndRepository(t *testing.T) {
	reg, _ := start(t, Config{Auth: AuthBasic, Users: users})
	_, err := reg.PutImage("public:v1", ImageSpec{})
	require.NoError(t, err)
	for _, tt := range []struct {
		name, password, path string
		want                 int
	}{
		{"", "", "team/app/manifests/v1", 401},
		{"robot", "wrong", "team/app/manifests/v1", 401},
		{"robot", "right", "team/app/manifests/v1", 200},
		{"other", "right", "team/app/manifests/v1", 403},
		{"", "", "public/manifests/v1", 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", reg.URL()+"/v2/"+tt.path, nil)
		require.NoError(t, err)
		if tt.name != "" {
			req.SetBasicAuth(tt.name, tt.password)
		}
		resp, err := client(t, reg).Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, tt.want, resp.StatusCode, "%v", tt)
		if tt.want == 401 {
			assert.Equal(t, `Basic realm="pullertest"`, resp.Header.Get("Www-Authenticate"))
		}
	}
	assert.Equal(t, 2, reg.Counts().Unauthorized)
}

func TestATokenOpensOnlyTheRepositoriesOfItsUser(t *testing.T) {
	reg, _ := start(t, Config{Auth: AuthBearer, Users: users})
	c := client(t, reg)
	first := ask(t, c, "GET", reg.URL()+"/v2/team/app/manifests/v1")
	assert.Equal(t, 401, first.StatusCode)
	assert.Equal(t, `Bearer realm="`+reg.URL()+`/token",service="pullertest",scope="repository:team/app:pull"`, first.Header.Get("Www-Authenticate"))

	get := func(user, password, scope string) answer {
		header := []string{}
		if user != "" {
			req := http.Request{Header: http.Header{}}
			req.SetBasicAuth(user, password)
			header = []string{"Authorization", req.Header.Get("Authorization")}
		}
		return ask(t, c, "GET", reg.URL()+"/token?service=pullertest&scope="+url.QueryEscape(scope), header...)
	}
	post := func(form url.Values) answer {
		resp, err := c.PostForm(reg.URL()+"/token", form)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return answer{resp, string(body)}
	}
	pulls := func(a answer, path string) int {
		if a.StatusCode != 200 {
			return a.StatusCode
		}
		var token struct {
			Token     string
			ExpiresIn int `json:"expires_in"`
		}
		require.NoError(t, json.Unmarshal([]byte(a.body), &token))
		assert.Equal(t, 300, token.ExpiresIn)
		return ask(t, c, "GET", reg.URL()+"/v2/"+path, "Authorization", "Bearer "+token.Token).StatusCode
	}
	const app, scope = "team/app/manifests/v1", "repository:team/app:pull"
	assert.Equal(t, 200, pulls(get("robot", "right", scope), app))
	assert.Equal(t, 401, get("robot", "wrong", scope).StatusCode)
	assert.Equal(t, 401, pulls(get("robot", "right", "repository:other/app:pull"), app), "a token of another scope")
	assert.Equal(t, 401, pulls(get("other", "right", scope), app), "a user without access")
	assert.Equal(t, 401, pulls(get("", "", scope), app), "an anonymous token")
	assert.Equal(t, 404, pulls(get("", "", "repository:public:pull"), "public/manifests/v1"), "an anonymous token for a public repository")
	assert.Equal(t, 200, pulls(post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"refresh"}, "scope": {scope}}), app))
	assert.Equal(t, 401, pulls(post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {""}, "scope": {scope}}), app))
	assert.Equal(t, 200, pulls(post(url.Values{"grant_type": {"password"}, "username": {"robot"}, "password": {"right"}, "scope": {scope}}), app))
}

func TestTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, _ := start(t, Config{Auth: AuthBearer, Users: users, TokenLife: time.Minute, Network: &Network{}})
		c := client(t, reg)
		defer c.CloseIdleConnections()
		token := reg.tokens.issue([]string{"team/app"}, time.Minute)
		pull := func() int {
			return ask(t, c, "GET", reg.URL()+"/v2/team/app/manifests/v1", "Authorization", "Bearer "+token).StatusCode
		}
		assert.Equal(t, 200, pull())
		time.Sleep(59 * time.Second)
		assert.Equal(t, 200, pull())
		time.Sleep(time.Second)
		assert.Equal(t, 401, pull())
		token = reg.tokens.issue([]string{"team/app"}, time.Minute)
		reg.ExpireTokens()
		assert.Equal(t, 401, pull())
	})
}

func TestStartRefusesAnUnknownAuthMode(t *testing.T) {
	_, err := Start(Config{Auth: "digest"})
	assert.EqualError(t, err, `registry: unknown authentication mode "digest"`)
}

func TestEqualImageSpecsGiveEqualDigests(t *testing.T) {
	_, a := start(t, Config{})
	reg, b := start(t, Config{Auth: AuthBasic})
	assert.Equal(t, a, b)
	other, err := reg.PutImage("team/app:v2", ImageSpec{Layers: []int64{100_000, 3}, Seed: 8})
	require.NoError(t, err)
	assert.Equal(t, ocispec.MediaTypeImageManifest, other.Descriptor.MediaType)
	seen := map[string]bool{}
	for _, d := range append(a.Blobs, other.Blobs...) {
		assert.False(t, seen[string(d.Digest)], "%s is the digest of two blobs", d.Digest)
		seen[string(d.Digest)] = true
	}
	_, err = reg.PutImage("team/app:v3", ImageSpec{Layers: []int64{-1}})
	assert.Error(t, err)
}
