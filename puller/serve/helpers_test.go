package serve_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A node is a Puller with its own store and records.
type node struct {
	*puller.Puller
	store *layout.Layout
	dir   *records.Dir
}

// newNode makes a node. ring has its credentials.
func newNode(t testing.TB, client registry.Config, ring credentials.Keyring) node {
	t.Helper()
	store, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { store.Close() })
	source, err := registry.New(client)
	require.NoError(t, err)
	t.Cleanup(source.CloseIdleConnections)
	rt, err := transfer.New(transfer.Config{Store: store, Source: source})
	require.NoError(t, err)
	dir, err := records.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { dir.Close() })
	p, err := puller.New(puller.Config{Runtime: rt, Records: dir, Keyring: ring, Parallel: -1, Platform: amd64})
	require.NoError(t, err)
	return node{p, store, dir}
}

var (
	amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm64 = ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
)

// pull pulls an image as a Pod with that pull secret does; nil for none.
func (n node) pull(t testing.TB, image string, secrets credentials.Keyring) puller.Image {
	t.Helper()
	img, err := n.Pull(t.Context(), puller.Request{Image: image, Keyring: secrets})
	require.NoError(t, err)
	return img
}

// manifest returns the platform's manifest of an image that the node has.
func (n node) manifest(t testing.TB, img puller.Image) ocispec.Manifest {
	t.Helper()
	f, err := n.store.FS().Open("sha256/" + img.Manifest.Encoded())
	require.NoError(t, err)
	defer f.Close()
	var m ocispec.Manifest
	require.NoError(t, json.NewDecoder(f).Decode(&m))
	return m
}

// A server serves the images of a node.
type server struct {
	*httptest.Server
	t testing.TB
}

// serves serves the images of a node. home is the registry of requests that name no
// registry.
func (n node) serves(t testing.TB, home string, conf serve.Config) server {
	t.Helper()
	conf.Store, conf.Records, conf.DefaultRegistry = n.store, n.dir, home
	h, err := serve.New(conf)
	require.NoError(t, err)
	return serveHandler(t, h)
}

func serveHandler(t testing.TB, h http.Handler) server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return server{s, t}
}

// An answer is the answer to a request, read to its end.
type answer struct {
	*http.Response
	body string
	err  error // of the body
}

// ask sends a request with these headers, as name and value in turn.
func (s server) ask(method, path string, header ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, http.NoBody)
	require.NoError(s.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.Client().Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp, string(data), err}
}

// get sends a GET and returns the status.
func (s server) get(path string) int {
	s.t.Helper()
	return s.ask(http.MethodGet, path).StatusCode
}

// code returns the error code of a refusal.
func (a answer) code(t testing.TB) string {
	t.Helper()
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &doc), a.body)
	require.Len(t, doc.Errors, 1)
	assert.NotEmpty(t, doc.Errors[0].Message)
	assert.Equal(t, "application/json; charset=utf-8", a.Header.Get("Content-Type"))
	return doc.Errors[0].Code
}

func startRegistry(t testing.TB, config pullertest.Config) *pullertest.Registry {
	t.Helper()
	reg, err := pullertest.Start(config)
	require.NoError(t, err)
	t.Cleanup(func() { reg.Close() })
	return reg
}

// privateRegistry requires the password "right".
func privateRegistry(t testing.TB) *pullertest.Registry {
	t.Helper()
	return startRegistry(t, pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "robot", Password: "right"}}})
}

// password returns the keyring of a Pod, or of a node, that has the password.
func password(t testing.TB, host string) credentials.Keyring {
	t.Helper()
	ring, err := credentials.Login(host, "robot", credentials.Conceal("right"))
	require.NoError(t, err)
	return ring
}

func put(t testing.TB, reg *pullertest.Registry, name string, spec pullertest.ImageSpec) pullertest.PutResult {
	t.Helper()
	result, err := reg.PutImage(name, spec)
	require.NoError(t, err)
	return result
}

// under returns the path of a manifest or blob of a repository.
func under(repository, kind string, name any) string {
	switch name := name.(type) {
	case string:
		return "/v2/" + repository + "/" + kind + "/" + name
	case ocispec.Descriptor:
		return "/v2/" + repository + "/" + kind + "/" + string(name.Digest)
	}
	panic("a string or a descriptor")
}

// mustParse is for names that tests make.
func mustParse(name string) reference.Reference { return reference.MustParse(name) }

// lose removes the file of a blob, as another program may.
func lose(t *testing.T, n node, blob ocispec.Descriptor) {
	t.Helper()
	require.NoError(t, os.Remove(filepath.Join(n.store.Dir(), "blobs", "sha256", blob.Digest.Encoded())))
}

func requestFor(image string) puller.Request { return puller.Request{Image: image} }
