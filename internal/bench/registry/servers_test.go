package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/bench/wan"
)

// trusting returns a client that trusts the authority of the store, and does not follow
// redirects.
func trusting(t *testing.T, s store) *http.Client {
	data, err := os.ReadFile(filepath.Join(s.dir, caFile))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(data))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask requests url and returns the answer with its body. change alters the request.
func ask(t *testing.T, client *http.Client, url string, change func(r *http.Request)) (*http.Response, string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	change(req)
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func asIs(*http.Request) {}

// counted asks for the counts.
func counted(t *testing.T, lines <-chan string, ask func()) (c Counts) {
	ask()
	require.NoError(t, json.Unmarshal([]byte(<-lines), &c))
	return c
}

// TestARegistryWithTokensAnswersOnlyToTheirHolders: a request needs a token for the repository,
// the token for a private repository needs a user, and all requests are counted.
func TestARegistryWithTokensAnswersOnlyToTheirHolders(t *testing.T) {
	s, c := made(t)
	c.Tags["private/a:1"] = c.Tags["plain:1"]
	require.NoError(t, s.save(c))
	host, lines, answer, stop := start(t, s, setup{tls: true, tokens: true})
	client := trusting(t, s)
	manifest := func(repository string) string { return "https://" + host + "/v2/" + repository + "/manifests/1" }
	token := func(realm string, change func(*http.Request)) (status int, token string) {
		resp, body := ask(t, client, realm, change)
		var got struct {
			Token string `json:"access_token"`
		}
		if resp.StatusCode == http.StatusOK {
			require.NoError(t, json.Unmarshal([]byte(body), &got))
		}
		return resp.StatusCode, got.Token
	}
	refused, _ := ask(t, client, manifest("plain"), asIs)
	require.Equal(t, http.StatusUnauthorized, refused.StatusCode)
	challenge := refused.Header.Get("WWW-Authenticate")
	require.Regexp(t, `^Bearer realm="https://localhost:[0-9]+/token",service="bench",scope="repository:plain:pull"$`, challenge)
	realm := strings.Split(challenge, `"`)[1]
	assert.NotEqual(t, "https://"+host+"/token", realm)

	user := func(name, password string) func(r *http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, password) }
	}
	for _, tt := range []struct {
		scope, repository string
		as                func(*http.Request)
		issued, admitted  int
	}{
		{"plain", "plain", asIs, 200, 200},
		{"plain", "private/a", asIs, 200, 401},
		{"private/a", "private/a", asIs, 200, 401},
		{"private/a", "private/a", user("bench", "bench"), 200, 200},
		{"private/a", "private/a", user("bench", "other"), 401, 401},
	} {
		status, got := token(realm+"?service=bench&scope=repository:"+tt.scope+":pull", tt.as)
		assert.Equal(t, tt.issued, status, tt)
		resp, _ := ask(t, client, manifest(tt.repository), func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+got) })
		assert.Equal(t, tt.admitted, resp.StatusCode, tt)
		assert.Equal(t, 2, resp.ProtoMajor)
	}
	form := url.Values{"scope": {"repository:private/a:pull"}, "username": {"bench"}, "password": {"bench"}}
	resp, err := client.PostForm(realm, form)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Equal(t, map[string]int{"GET manifest": 2, "refused GET manifest": 4, "GET token": 5, "POST token": 1}, counted(t, lines, answer).Requests)
	stop()
}

// TestBlobsBehindARedirectNeedItsSignedURL: the storage serves a blob only for the URL that was
// signed, unchanged and without Authorization.
func TestBlobsBehindARedirectNeedItsSignedURL(t *testing.T) {
	s, c := made(t)
	h, err := newHandler(s)
	require.NoError(t, err)
	var manifest ocispec.Manifest
	require.NoError(t, json.Unmarshal(h.docs[c.Tags["plain:1"]].body, &manifest))
	host, lines, answer, stop := start(t, s, setup{tls: true, redirect: true})
	client := trusting(t, s)
	var signed string
	for _, d := range []digest.Digest{manifest.Layers[0].Digest, manifest.Layers[1].Digest} {
		resp, _ := ask(t, client, "https://"+host+"/v2/plain/blobs/"+d.String(), asIs)
		require.Equal(t, http.StatusTemporaryRedirect, resp.StatusCode)
		signed = resp.Header.Get("Location")
		require.NotContains(t, signed, host)
		resp, body := ask(t, client, signed, asIs)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		assert.Equal(t, d, digest.FromString(body))
	}
	part, body := ask(t, client, signed, func(r *http.Request) { r.Header.Set("Range", "bytes=0-9") })
	assert.Equal(t, http.StatusPartialContent, part.StatusCode)
	assert.Len(t, body, 10)
	for name, tt := range map[string]struct {
		url    string
		change func(*http.Request)
	}{
		"another blob":  {strings.Replace(signed, manifest.Layers[1].Digest.String(), manifest.Layers[0].Digest.String(), 1), asIs},
		"later":         {strings.Replace(signed, "Expires=1", "Expires=2", 1), asIs},
		"without":       {strings.Split(signed, "?")[0], asIs},
		"Authorization": {signed, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }},
	} {
		resp, _ := ask(t, client, tt.url, tt.change)
		assert.Equal(t, http.StatusForbidden, resp.StatusCode, name)
	}
	counts := counted(t, lines, answer)
	assert.Equal(t, map[string]int{"GET blob": 2, "GET storage": 7}, counts.Requests)
	assert.Equal(t, 2, counts.OneBlob)
	stop()
}

// TestARegistryFarAwayAnswersAfterItsRoundTrips: answers take the round trips of the link, and
// the requests that waited for one another are counted.
func TestARegistryFarAwayAnswersAfterItsRoundTrips(t *testing.T) {
	s, _ := made(t)
	host, lines, answer, stop := start(t, s, setup{wan: &wan.Link{Delay: 2 * time.Millisecond}})
	client := trusting(t, s)
	began := time.Now()
	for range 2 {
		resp, _ := ask(t, client, "http://"+host+"/v2/plain/manifests/1", asIs)
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	assert.GreaterOrEqual(t, time.Since(began), 3*4*time.Millisecond)
	assert.Equal(t, map[string][]string{"plain": {"GET manifest", "GET manifest"}}, counted(t, lines, answer).Chains)
	stop()
}

func TestAChainIsOfRequestsThatWaitedForOneAnother(t *testing.T) {
	at := func(ms int) time.Time { return time.Time{}.Add(time.Duration(ms) * time.Millisecond) }
	log := []request{
		{"GET ping", "", at(0)},
		{"GET token", "a b", at(100)},
		{"GET manifest", "a", at(200)},
		{"GET blob", "a", at(250)},
		{"GET blob", "a", at(299)},
		{"GET blob", "a", at(300)},
		{"GET manifest", "b", at(300)},
		{"HEAD manifest", "a", at(399)},
	}
	assert.Equal(t, map[string][]string{
		"a": {"GET token", "GET manifest", "GET blob"},
		"b": {"GET token", "GET manifest"},
	}, chains(log, 100*time.Millisecond))
	assert.Empty(t, chains(nil, time.Second))
}

// TestEachKindOfImageIsMade makes an image of each kind that is not plain.
func TestEachKindOfImageIsMade(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, makeImages(dir, []string{"multi=index:2x5000", "big=hole:1000000", "private=shared:3"}))
	h, err := newHandler(store{dir})
	require.NoError(t, err)
	manifest := func(d digest.Digest) (m ocispec.Manifest) {
		require.NoError(t, json.Unmarshal(h.docs[d].body, &m))
		return m
	}
	var index ocispec.Index
	require.NoError(t, json.Unmarshal(h.docs[h.tags["multi:1"]].body, &index))
	require.Len(t, index.Manifests, 5)
	for _, desc := range index.Manifests {
		layers := 1
		if desc.Platform.Architecture == "amd64" {
			layers = 2
		}
		assert.Len(t, manifest(desc.Digest).Layers, layers)
	}
	layer := manifest(h.tags["big:1"]).Layers[0]
	blob, err := os.ReadFile(store{dir}.path(layer.Digest))
	require.NoError(t, err)
	assert.Equal(t, layer.Digest, digest.FromBytes(blob))
	assert.Equal(t, append([]byte{0x1f, 0x8b, 8}, bytes.Repeat([]byte{0}, 1_000_000-3)...), blob)
	first, last := manifest(h.tags["private0:1"]), manifest(h.tags["private2:1"])
	assert.Equal(t, first.Layers, last.Layers)
	assert.NotEqual(t, first.Config, last.Config)
	for _, spec := range []string{"x=other:1", "x=index:2", "x=tiny:many"} {
		assert.Error(t, makeImages(t.TempDir(), []string{spec}), spec)
	}
}
