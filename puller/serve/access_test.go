package serve_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// statuses sends requests for all content of an image by every path, and returns the
// statuses of the answers, each once.
func (s server) statuses(t *testing.T, n node, repository, tag string, image pullertest.PutResult) []int {
	t.Helper()
	seen := map[int]bool{}
	paths := []string{under(repository, "manifests", tag), under(repository, "manifests", image.Descriptor), under(repository, "manifests", image.Manifests[0])}
	for _, b := range image.Blobs {
		paths = append(paths, under(repository, "blobs", b))
	}
	var list []int
	for _, p := range paths {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := s.ask(method, p)
			if !seen[a.StatusCode] {
				seen[a.StatusCode] = true
				list = append(list, a.StatusCode)
			}
		}
	}
	return list
}

var oneLayer = pullertest.ImageSpec{Layers: []int64{5000}}

// By default only content is served that came without a credential, and that the registry
// itself has named without a credential. For all other content, every path gets 404.
func TestOnlyPublicImagesAreServed(t *testing.T) {
	for name, tt := range map[string]struct {
		private   bool
		node, pod bool // has the password
		mirrored  registry.Capability
		want      int
	}{
		"pulled anonymously":                     {want: 200},
		"pulled with the node's password":        {private: true, node: true, want: 404},
		"pulled with a Pod's secret":             {private: true, pod: true, want: 404},
		"a Pod's secret that was not needed":     {pod: true, want: 404},
		"given by a mirror only":                 {mirrored: registry.CanPull | registry.CanResolve, want: 404},
		"named by the registry, given by mirror": {mirrored: registry.CanPull, want: 200},
	} {
		t.Run(name, func(t *testing.T) {
			reg := startRegistry(t, pullertest.Config{})
			if tt.private {
				reg = privateRegistry(t)
			}
			image := put(t, reg, "team/app:v1", oneLayer)
			config := registry.Config{}
			if tt.mirrored != 0 {
				mirror := startRegistry(t, pullertest.Config{})
				put(t, mirror, "team/app:v1", oneLayer)
				config.Registries = map[string]registry.Hosts{reg.Host(): {
					Mirrors: []registry.Host{{URL: mirror.URL(), Can: tt.mirrored}}, Server: registry.Host{URL: reg.URL()},
				}}
			}
			var ring, secrets credentials.Keyring
			if tt.node {
				ring = password(t, reg.Host())
			}
			if tt.pod {
				secrets = password(t, reg.Host())
			}
			n := newNode(t, config, ring)
			n.pull(t, reg.Host()+"/team/app:v1", secrets)
			s := n.serves(t, reg.Host(), serve.Config{})
			assert.Equal(t, []int{tt.want}, s.statuses(t, n, "team/app", "v1", image))
		})
	}
}

// Without a record, or with the record of an earlier version, it is not known how an image
// came to the node.
func TestAnImageWithoutARecordIsNotServed(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", oneLayer)
	n := newNode(t, registry.Config{}, nil)
	img := n.pull(t, reg.Host()+"/team/app:v1", nil)
	record, err := n.dir.Record(t.Context(), img.ID)
	require.NoError(t, err)
	for name, change := range map[string]func(path string){
		"no record": func(path string) { require.NoError(t, os.Remove(path)) },
		"of a former version": func(path string) {
			data, err := json.Marshal(records.Record{ID: img.ID, Names: map[string]records.Access{reg.Host() + "/team/app": {Everybody: true}}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, data, 0o600))
		},
		"of another name": func(path string) {
			data, err := json.Marshal(records.Record{ID: img.ID, Names: map[string]records.Access{reg.Host() + "/team/other": record.Names[reg.Host()+"/team/app"]}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, data, 0o600))
		},
		"unreadable": func(path string) { require.NoError(t, os.WriteFile(path, []byte("{"), 0o600)) },
	} {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(recordsOf(t, n, img.ID))))
		other, err := records.Open(dir)
		require.NoError(t, err)
		files, err := filepath.Glob(filepath.Join(dir, "records", "*.json"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		change(files[0])
		s := node{n.Puller, n.store, other}.serves(t, reg.Host(), serve.Config{})
		assert.Equal(t, []int{404}, s.statuses(t, n, "team/app", "v1", image), name)
		require.NoError(t, other.Close())
	}
}

// recordsOf writes the record of an image to a new directory of records.
func recordsOf(t *testing.T, n node, id string) string {
	t.Helper()
	record, err := n.dir.Record(t.Context(), id)
	require.NoError(t, err)
	dir := t.TempDir()
	copied, err := records.Open(dir)
	require.NoError(t, err)
	defer copied.Close()
	for name, access := range record.Names {
		require.NoError(t, copied.Grant(t.Context(), id, name, access))
	}
	return dir
}

// A public image of another author names a layer that is on the node because a private
// image has it. The node pulls the public image, and still does not serve the layer.
func TestAPublicManifestOpensNoPrivateBlob(t *testing.T) {
	private, strange := privateRegistry(t), startRegistry(t, pullertest.Config{})
	put(t, private, "team/app:v1", oneLayer)
	n := newNode(t, registry.Config{}, password(t, private.Host()))
	secret := n.manifest(t, n.pull(t, private.Host()+"/team/app:v1", nil))

	config := []byte(`{"architecture":"amd64","os":"linux"}`)
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: strange.PutBlob("x/evil", ocispec.MediaTypeImageConfig, config),
		Layers: secret.Layers,
	})
	require.NoError(t, err)
	strange.PutManifest("x/evil:v1", ocispec.MediaTypeImageManifest, manifest)
	n.pull(t, strange.Host()+"/x/evil:v1", nil)
	for name, conf := range map[string]serve.Config{"closed": {}, "pulls on request": {Puller: n.Puller, PullFrom: []string{strange.Host()}}} {
		s := n.serves(t, strange.Host(), conf)
		assert.Equal(t, 200, s.get("/v2/x/evil/manifests/v1"), "the public image's own manifest")
		assert.Equal(t, 200, s.get(under("x/evil", "blobs", string(digest.FromBytes(config)))), "the public image's own blob")
		assert.Equal(t, 404, s.get(under("x/evil", "blobs", secret.Layers[0])), name)
	}
}

// Two public images share a layer. The node has fetched the layer with the first image. It
// serves the layer under both repositories, and not under a third repository.
func TestASharedLayerIsServedUnderEachImageThatNamesIt(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	base := put(t, reg, "team/base:v1", oneLayer)
	n := newNode(t, registry.Config{}, nil)
	layers := n.manifest(t, n.pull(t, reg.Host()+"/team/base:v1", nil)).Layers
	s := n.serves(t, reg.Host(), serve.Config{})
	assert.Equal(t, 200, s.get(under("team/base", "blobs", layers[0])))

	config := reg.PutBlob("team/app", ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","config":{}}`))
	manifest, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers})
	require.NoError(t, err)
	reg.PutManifest("team/app:v1", ocispec.MediaTypeImageManifest, manifest)
	assert.Equal(t, 404, s.get(under("team/app", "blobs", layers[0])), "not pulled yet")
	img := n.pull(t, reg.Host()+"/team/app:v1", nil)
	assert.NotContains(t, img.Public, layers[0].Digest, "it was stored already")
	assert.Equal(t, 200, s.get(under("team/app", "blobs", layers[0])), "found although the Store was listed before")
	assert.Equal(t, 404, s.get(under("team/other", "blobs", layers[0])))
	_ = base
}

// A removed image is not served any more, even if it was served before.
func TestARemovedImageIsNotServed(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", oneLayer)
	other := put(t, reg, "team/other:v1", oneLayer) // the same content
	n := newNode(t, registry.Config{}, nil)
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	n.pull(t, reg.Host()+"/team/other:v1", nil)
	s := n.serves(t, reg.Host(), serve.Config{})
	assert.Equal(t, []int{200}, s.statuses(t, n, "team/app", "v1", image))
	assert.Equal(t, []int{200}, s.statuses(t, n, "team/other", "v1", other))
	_, err := n.store.Remove(t.Context(), mustParse(reg.Host()+"/team/app:v1"))
	require.NoError(t, err)
	assert.Equal(t, []int{404}, s.statuses(t, n, "team/app", "v1", image))
	assert.Equal(t, []int{200}, s.statuses(t, n, "team/other", "v1", other))
}

// Allow decides which clients may have an image that is not public, under the name that it
// is asked about. It is not asked about public content.
func TestAllowDecidesTheRest(t *testing.T) {
	private, open := privateRegistry(t), startRegistry(t, pullertest.Config{})
	image := put(t, private, "team/app:v1", oneLayer)
	put(t, private, "team/hidden:v1", pullertest.ImageSpec{Layers: []int64{5000}, Seed: 1})
	put(t, open, "team/app:v1", oneLayer)
	n := newNode(t, registry.Config{}, password(t, private.Host()))
	n.pull(t, private.Host()+"/team/app:v1", nil)
	n.pull(t, private.Host()+"/team/hidden:v1", nil)
	n.pull(t, open.Host()+"/team/app:v1", nil)

	var mu sync.Mutex
	var asked []string
	s := n.serves(t, private.Host(), serve.Config{Allow: func(r *http.Request, image reference.Reference) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, image.String())
		if r.Header.Get("X-Friend") == "" || image.Repository() != "team/app" {
			return errors.New("only friends may have team/app")
		}
		return nil
	}})
	assert.Equal(t, []int{404}, s.statuses(t, n, "team/app", "v1", image), "not a friend")
	assert.Contains(t, asked, private.Host()+"/team/app:v1")
	assert.Contains(t, asked, private.Host()+"/team/app@"+string(image.Descriptor.Digest))
	for _, path := range []string{under("team/app", "manifests", "v1"), under("team/app", "manifests", image.Descriptor), under("team/app", "blobs", image.Blobs[1])} {
		a := s.ask(http.MethodGet, path, "X-Friend", "yes")
		assert.Equal(t, 200, a.StatusCode)
		assert.Equal(t, "private", a.Header.Get("Cache-Control"), "a cache must not give it to others")
	}
	hidden := s.ask(http.MethodGet, under("team/hidden", "manifests", "v1"), "X-Friend", "yes")
	assert.Equal(t, 404, hidden.StatusCode)
	absent := s.ask(http.MethodGet, under("team/absent", "manifests", "v1"), "X-Friend", "yes")
	assert.Equal(t, absent.body, hidden.body, "a client does not learn that it exists")
	assert.NotContains(t, hidden.body, "friend")

	asked = nil
	assert.Equal(t, 200, s.get("/v2/team/app/manifests/v1?ns="+open.Host()))
	assert.Empty(t, asked)
	assert.False(t, strings.Contains(hidden.body, private.Host()))
}

// With Allow and without Records, nothing is public.
func TestWithoutRecordsOnlyAllowOpens(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", oneLayer)
	n := newNode(t, registry.Config{}, nil)
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	var no error
	h, err := serve.New(serve.Config{Store: n.store, DefaultRegistry: reg.Host(), Allow: func(*http.Request, reference.Reference) error { return no }})
	require.NoError(t, err)
	s := serveHandler(t, h)
	assert.Equal(t, []int{200}, s.statuses(t, n, "team/app", "v1", image))
	no = errors.New("no")
	assert.Equal(t, []int{404}, s.statuses(t, n, "team/app", "v1", image))
}

// A client that has left gets no answer. An empty answer would have the status 200, a
// success.
func TestAClientThatHasLeftGetsNoAnswer(t *testing.T) {
	reg := privateRegistry(t)
	put(t, reg, "team/app:v1", oneLayer)
	n := newNode(t, registry.Config{}, password(t, reg.Host()))
	n.pull(t, reg.Host()+"/team/app:v1", nil)
	ctx, leave := context.WithCancel(t.Context())
	h := n.handler(t, reg.Host(), serve.Config{Allow: func(r *http.Request, _ reference.Reference) error {
		leave()
		return r.Context().Err()
	}})
	w := httptest.NewRecorder()
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() {
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/v2/team/app/manifests/v1", http.NoBody))
	})
	assert.Empty(t, w.Body.String())
}

// An image that cannot be read does not hide the other images of its repository.
func TestAnImageThatCannotBeReadHidesNoOther(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	n := newNode(t, registry.Config{}, nil)
	var images []pullertest.PutResult
	for i, tag := range []string{"v1", "v2", "v3"} {
		images = append(images, put(t, reg, "team/app:"+tag, pullertest.ImageSpec{Layers: []int64{1000 + int64(i)}}))
		n.pull(t, reg.Host()+"/team/app:"+tag, nil)
	}
	lose(t, n, images[1].Descriptor)
	require.NoError(t, os.Mkdir(filepath.Join(n.store.Dir(), "blobs", "sha256", images[1].Descriptor.Digest.Encoded()), 0o700))
	s := n.serves(t, reg.Host(), serve.Config{})
	for i, want := range []int{200, 500, 200} {
		assert.Equal(t, want, s.get(under("team/app", "blobs", images[i].Blobs[1])))
		assert.Equal(t, want, s.get(under("team/app", "manifests", images[i].Descriptor)))
	}
}
