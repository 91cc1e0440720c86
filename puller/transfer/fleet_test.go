package transfer_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/backoff"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const nodes = 100

// A mirror is a pull-through cache. It asks the origin once for what it does not have.
type mirror struct {
	origin string
	client *http.Client
	down   atomic.Bool // mirror and origin answer 503
	cached sync.Map    // path -> func() answer

	mu   sync.Mutex
	asks []time.Time // when the manifest was asked for by its tag, since the mirror is up again
}

type cachedAnswer struct {
	status int
	header http.Header
	body   []byte
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if m.down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if req.Method == http.MethodGet && req.URL.Path == "/v2/team/app/manifests/v1" {
		m.mu.Lock()
		m.asks = append(m.asks, time.Now())
		m.mu.Unlock()
	}
	ask, _ := m.cached.LoadOrStore(req.URL.Path, sync.OnceValue(func() cachedAnswer { return m.fetch(req.URL.Path) }))
	a := ask.(func() cachedAnswer)()
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.status)
	if req.Method == http.MethodGet {
		_, _ = w.Write(a.body)
	}
}

func (m *mirror) fetch(path string) cachedAnswer {
	res, err := m.client.Get(m.origin + path)
	if err != nil {
		return cachedAnswer{status: http.StatusBadGateway}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return cachedAnswer{status: http.StatusBadGateway}
	}
	return cachedAnswer{res.StatusCode, res.Header, body}
}

// pullFleet lets all nodes pull while mirror and origin are down, and brings both back. It
// returns how long after the first node each node asked again, and the requests that the
// origin got.
func pullFleet(t *testing.T, jitter float64) (spread []time.Duration, counts pullertest.Counts) {
	var network pullertest.Network
	origin, err := pullertest.Start(pullertest.Config{Network: &network})
	require.NoError(t, err)
	defer origin.Close()
	_, err = origin.PutImage("team/app:v1", pullertest.ImageSpec{Layers: []int64{300_000, 20_000, 1000}})
	require.NoError(t, err)

	transport := &http.Transport{DialContext: network.DialContext}
	m := &mirror{origin: origin.URL(), client: &http.Client{Transport: transport}}
	m.down.Store(true)
	ln, err := network.Listen("127.0.0.1:0")
	require.NoError(t, err)
	server := &http.Server{Handler: m}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(ln) })
	defer func() { _ = server.Close(); served.Wait(); transport.CloseIdleConnections() }()

	hosts := map[string]registry.Hosts{origin.Host(): {
		Mirrors: []registry.Host{{URL: "http://" + ln.Addr().String()}},
		Server:  registry.Host{URL: "http://127.0.0.1:1"}, // the nodes cannot reach the origin itself
	}}
	var wg sync.WaitGroup
	for range nodes {
		wg.Go(func() {
			client, err := registry.New(registry.Config{Registries: hosts, DialContext: network.DialContext})
			if !assert.NoError(t, err) {
				return
			}
			defer client.CloseIdleConnections()
			p, err := puller.New(puller.Config{
				Runtime:  newRuntime(t, transfer.Config{Source: client, Store: &pullertest.MemStore{}}),
				Platform: amd64,
				Backoff:  backoff.Config{Initial: 30 * time.Second, Jitter: jitter},
			})
			if assert.NoError(t, err) {
				_, err = p.PullWait(t.Context(), puller.Request{Image: fmt.Sprint(origin.Host(), "/team/app:v1")})
				assert.NoError(t, err)
			}
		})
	}
	time.Sleep(20 * time.Second) // by then each node has failed once
	m.down.Store(false)
	wg.Wait()
	for _, at := range m.asks {
		spread = append(spread, at.Sub(m.asks[0]))
	}
	return spread, origin.Counts()
}

// crowd is the largest number of nodes that ask within one second.
func crowd(at []time.Duration) int {
	slices.Sort(at)
	most := 0
	for i := range at {
		j, _ := slices.BinarySearch(at, at[i]+time.Second)
		most = max(most, j-i)
	}
	return most
}

// All nodes of a fleet behind a pull-through mirror fail to pull an image at the same time.
// With jitter they do not come back at the same time.
func TestAFleetWithJitterComesBackSpreadOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain, _ := pullFleet(t, 0)
		spread, counts := pullFleet(t, 1)
		require.Len(t, plain, nodes)
		require.Len(t, spread, nodes)
		t.Logf("most of %d nodes within a second: %d without jitter, %d with; over %v and %v",
			nodes, crowd(plain), crowd(spread), plain[nodes-1], spread[nodes-1])
		assert.LessOrEqual(t, crowd(spread), 18, "with jitter: 3 on average")
		assert.Greater(t, crowd(plain), 2*crowd(spread), "without jitter")
		assert.Equal(t, 1, counts.ManifestGet)
		assert.Equal(t, 4, counts.BlobGet, "the origin serves config and layers once")
	})
}
