package serve_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/serve"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// gated passes requests on to a registry. Requests for blobs wait until open is closed.
type gated struct {
	reg     *pullertest.Registry
	open    chan struct{}
	reached chan struct{}
	once    sync.Once
}

func newGated(t *testing.T, reg *pullertest.Registry) (g *gated, host string) {
	g = &gated{reg: reg, open: make(chan struct{}), reached: make(chan struct{})}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return g, strings.TrimPrefix(s.URL, "http://")
}

func (g *gated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/blobs/") {
		g.once.Do(func() { close(g.reached) })
		select {
		case <-g.open:
		case <-r.Context().Done():
			return
		}
	}
	g.reg.ServeHTTP(w, r)
}

// A missing image is pulled once for all clients that ask for it, and is then served.
func TestAMissingImageIsPulledOnceForAllClients(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	image := put(t, reg, "team/app:v1", pullertest.ImageSpec{Platforms: []ocispec.Platform{amd64, arm64}, Layers: []int64{300_000, 1000}})
	g, host := newGated(t, reg)
	n := newNode(t, registry.Config{}, nil)
	s := n.serves(t, host, serve.Config{Puller: n.Puller, PullFrom: []string{host}})
	var clients sync.WaitGroup
	var got atomic.Int64
	for range 20 {
		clients.Go(func() {
			if s.get("/v2/team/app/manifests/v1") == 200 {
				got.Add(1)
			}
		})
	}
	<-g.reached
	close(g.open)
	clients.Wait()
	assert.EqualValues(t, 20, got.Load())
	counts := reg.Counts()
	assert.Equal(t, 2, counts.ManifestGet, "the index and one manifest")
	assert.Equal(t, 3, counts.BlobGet)
	for _, b := range image.Blobs[:3] {
		assert.Equal(t, 200, s.get(under("team/app", "blobs", b)))
	}
	assert.Equal(t, counts, reg.Counts(), "the rest comes from the store")

	// The manifest of another platform is pulled by its digest, because a client asks for it.
	assert.Equal(t, 200, s.get(under("team/app", "manifests", image.Manifests[1])))
	for _, b := range image.Blobs[3:] {
		assert.Equal(t, 200, s.get(under("team/app", "blobs", b)))
	}
	assert.Equal(t, 404, s.get(under("team/app", "manifests", "v2")), "the registry does not have it")
	assert.Equal(t, 404, s.get(under("team/app", "blobs", sha256Of("x"))), "a blob alone is not pulled")
}

// Nothing is pulled from a registry that is not in PullFrom. Without a Puller nothing is
// pulled at all.
func TestOnlyListedRegistriesAreAskedOnRequest(t *testing.T) {
	reg, other := startRegistry(t, pullertest.Config{}), startRegistry(t, pullertest.Config{})
	put(t, reg, "team/app:v1", oneLayer)
	put(t, other, "team/app:v1", oneLayer)
	n := newNode(t, registry.Config{}, nil)
	for _, conf := range []serve.Config{{}, {Puller: n.Puller, PullFrom: []string{other.Host()}}} {
		s := n.serves(t, reg.Host(), conf)
		assert.Equal(t, 404, s.get("/v2/team/app/manifests/v1"))
	}
	assert.Zero(t, reg.Counts().Total())
	s := n.serves(t, reg.Host(), serve.Config{Puller: n.Puller, PullFrom: []string{other.Host()}})
	assert.Equal(t, 200, s.get("/v2/team/app/manifests/v1?ns="+other.Host()))
}

// If the node's password opens a private image, the image is pulled, and the client that
// asked for it still gets 404.
func TestAnImageThatTheNodesPasswordOpensIsNotServed(t *testing.T) {
	reg := privateRegistry(t)
	image := put(t, reg, "team/app:v1", oneLayer)
	n := newNode(t, registry.Config{}, password(t, reg.Host()))
	s := n.serves(t, reg.Host(), serve.Config{Puller: n.Puller, PullFrom: []string{reg.Host()}})
	assert.Equal(t, []int{404}, s.statuses(t, n, "team/app", "v1", image))
	_, err := n.store.Lookup(t.Context(), mustParse(reg.Host()+"/team/app:v1"))
	require.NoError(t, err, "it was pulled")
}

// If the registry cannot be reached, or if a pull takes long, the answer is 503 with
// Retry-After. So the client asks another host, and later this host again.
func TestAPullThatFailsIsAnsweredWithRetryAfter(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	put(t, reg, "team/app:v1", oneLayer)
	g, host := newGated(t, reg)
	n := newNode(t, registry.Config{Retries: -1}, nil)
	s := n.serves(t, host, serve.Config{Puller: n.Puller, PullFrom: []string{host, "127.0.0.1:1"}, PullTimeout: time.Nanosecond})
	late := s.ask(http.MethodGet, "/v2/team/app/manifests/v1")
	assert.Equal(t, http.StatusServiceUnavailable, late.StatusCode)
	assert.Equal(t, "10", late.Header.Get("Retry-After"))
	assert.Equal(t, "UNAVAILABLE", late.code(t))
	close(g.open)

	s = n.serves(t, host, serve.Config{Puller: n.Puller, PullFrom: []string{host, "127.0.0.1:1"}})
	down := s.ask(http.MethodGet, "/v2/team/app/manifests/v1?ns=127.0.0.1:1")
	assert.Equal(t, http.StatusServiceUnavailable, down.StatusCode)
	assert.NotContains(t, down.body, "refused", "the client does not learn which hosts this host can reach")
	again := s.ask(http.MethodGet, "/v2/team/app/manifests/v1?ns=127.0.0.1:1")
	assert.Equal(t, http.StatusServiceUnavailable, again.StatusCode)
	assert.NotEmpty(t, again.Header.Get("Retry-After"), "the end of the back-off")
	assert.Equal(t, 200, s.get("/v2/team/app/manifests/v1"))
}

// At most 16 names are pulled at the same time on request.
func TestPullsOnRequestHaveALimit(t *testing.T) {
	reg := startRegistry(t, pullertest.Config{})
	names := make([]string, 17)
	for i := range names {
		names[i] = "team/app:v" + string(rune('a'+i))
		put(t, reg, names[i], pullertest.ImageSpec{Layers: []int64{1000}, Seed: uint64(i)})
	}
	g, host := newGated(t, reg)
	n := newNode(t, registry.Config{}, nil)
	s := n.serves(t, host, serve.Config{Puller: n.Puller, PullFrom: []string{host}})
	statuses := make(chan int, len(names))
	for _, name := range names {
		go func() { statuses <- s.get("/v2/team/app/manifests/" + strings.TrimPrefix(name, "team/app:")) }()
	}
	assert.Equal(t, 429, <-statuses, "the others wait")
	close(g.open)
	for range 16 {
		assert.Equal(t, 200, <-statuses)
	}
}

// If the file of a blob is lost, a request for the blob pulls it again.
func TestABlobThatIsMissingIsPulledAgain(t *testing.T) {
	n, host, path, layer := large(t, 1000)
	s := n.serves(t, host, serve.Config{Puller: n.Puller, PullFrom: []string{host}})
	assert.Equal(t, 200, s.get(path))
	lose(t, n, layer)
	assert.Equal(t, 200, s.get(path))
	lose(t, n, layer)
	assert.Equal(t, 404, n.serves(t, host, serve.Config{}).get(path))
}
