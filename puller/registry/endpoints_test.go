package registry

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
)

// A failingTransport fails all requests.
type failingTransport struct{}

func (failingTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("connection refused")
}

// Of many registries those that are idle longest are forgotten, and those in use are
// kept.
func TestIdleRegistriesAreForgotten(t *testing.T) {
	c := newClient(t, Config{WrapTransport: instead(failingTransport{}), Retries: -1})
	used, err := c.hostsFor(t.Context(), "used.example")
	require.NoError(t, err)
	for i := range 3 * maxRegistries {
		_, err := c.Manifest(t.Context(), content.Repo{Ref: mustRef(fmt.Sprintf("r%d.example/app", i)), Cred: noCredential}, "")
		require.Error(t, err)
		if i%100 == 0 {
			_, err = c.Manifest(t.Context(), content.Repo{Ref: mustRef("often.example/app"), Cred: noCredential}, "")
			require.Error(t, err)
		}
	}
	e := &c.hosts
	assert.LessOrEqual(t, len(e.byName), maxRegistries)
	assert.Equal(t, len(e.byName), e.idle.Len()+1)
	assert.Same(t, used, e.byName["used.example"])
	assert.Contains(t, e.byName, "often.example")
	assert.Contains(t, e.byName, fmt.Sprintf("r%d.example", 3*maxRegistries-1))
	assert.NotContains(t, e.byName, "r0.example")

	// If all registries are in use, none is forgotten.
	for i := range maxRegistries + 10 {
		_, err := c.hostsFor(t.Context(), fmt.Sprintf("held%d.example", i))
		require.NoError(t, err)
	}
	assert.Equal(t, maxRegistries+11, len(e.byName))
	e.release(used)
	_, err = c.hostsFor(t.Context(), "one-more.example")
	require.NoError(t, err)
	assert.NotContains(t, e.byName, "used.example")
}

// TestARegistryIsKeptWhileABodyOfItIsOpen: a registry is in use as long as one of its blobs is read.
func TestARegistryIsKeptWhileABodyOfItIsOpen(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer server.Close()
	host := server.Listener.Addr().String()
	c := newClient(t, Config{PlainHTTP: []string{host}})
	body, err := c.Blob(t.Context(), content.Repo{Ref: mustRef(host + "/app"), Cred: noCredential}, ocispec.Descriptor{Digest: digest.FromString("hello"), Size: 5}, 0, -1)
	require.NoError(t, err)
	k := c.hosts.byName[host]
	assert.Equal(t, 1, k.users)
	data, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(data))
	for range 2 {
		assert.NoError(t, body.Close())
	}
	assert.Zero(t, k.users)
	_, err = c.Blob(t.Context(), content.Repo{Ref: mustRef(host + "/app"), Cred: noCredential}, ocispec.Descriptor{Digest: digest.FromString("hello"), Size: 5}, 9, -1)
	assert.Error(t, err)
	assert.Zero(t, k.users)
	c.CloseIdleConnections()
	assert.Zero(t, c.hosts.conns.Load())
}

// All registries together have a limited number of idle connections. A registry that was
// asked lately keeps its connection.
func TestIdleConnectionsAreBounded(t *testing.T) {
	var open atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	defer server.Close()
	dials := map[string]int{}
	const registries = 3 * maxConns
	var plain []string
	for i := range registries {
		plain = append(plain, fmt.Sprintf("r%d.example", i))
	}
	c := newClient(t, Config{PlainHTTP: plain, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials[addr]++
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}})
	for i := range registries {
		_, err := c.Manifest(t.Context(), content.Repo{Ref: mustRef(fmt.Sprintf("r%d.example/app", i)), Cred: noCredential}, "")
		require.ErrorIs(t, err, content.ErrNotFound)
	}
	_, err := c.Manifest(t.Context(), content.Repo{Ref: mustRef(fmt.Sprintf("r%d.example/app", registries-2)), Cred: noCredential}, "")
	require.ErrorIs(t, err, content.ErrNotFound)
	assert.Equal(t, 1, dials[fmt.Sprintf("r%d.example:80", registries-2)], "a connection that was used lately is kept")
	assert.LessOrEqual(t, c.hosts.conns.Load(), int64(maxConns)+2)
	assert.Eventually(t, func() bool { return open.Load() <= maxConns+2 }, 10*time.Second, 10*time.Millisecond, "the other connections are closed")
	c.CloseIdleConnections()
	assert.Zero(t, c.hosts.conns.Load())
}

// A file system that does not answer holds no call past the end of its ctx, or past the
// stall time. Other registries can be asked. One goroutine for each registry waits for the
// file system, and in all there are at most maxReaders.
func TestFilesThatHangHoldNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := make(chan struct{})
		var mu sync.Mutex
		readers := map[string]int{}
		c := newClient(t, Config{WrapTransport: instead(failingTransport{}), Retries: -1, HostsReader: hostsReader(func(registry string) (Hosts, string) {
			mu.Lock()
			readers[registry]++
			mu.Unlock()
			if strings.HasPrefix(registry, "hung") {
				<-hung
			}
			return Hosts{}, ""
		})})
		ask := func(ctx context.Context, registry string) error {
			_, err := c.Manifest(ctx, content.Repo{Ref: mustRef(registry + "/app"), Cred: noCredential}, "")
			return err
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, ask(ctx, "hung.example"), context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(began))

		err := ask(t.Context(), "hung.example")
		assert.ErrorIs(t, err, content.ErrConfig)
		assert.ErrorContains(t, err, "does not answer")
		assert.Equal(t, 16*time.Second, time.Since(began))
		mu.Lock()
		assert.Equal(t, 1, readers["hung.example"], "the second call waits for the reader of the first call")
		mu.Unlock()

		assert.ErrorIs(t, ask(t.Context(), "other.example"), content.ErrNetwork)
		c.CloseIdleConnections()
		assert.Equal(t, 16*time.Second, time.Since(began))

		var calls sync.WaitGroup
		for i := range 10 * maxReaders {
			calls.Go(func() { assert.ErrorIs(t, ask(t.Context(), fmt.Sprintf("hung%d.example", i)), content.ErrConfig) })
		}
		calls.Wait()
		mu.Lock()
		assert.Equal(t, maxReaders+1, len(readers), "the reader of other.example is counted too")
		mu.Unlock()
		close(hung)
		synctest.Wait()
		assert.ErrorIs(t, ask(t.Context(), "hung.example"), content.ErrNetwork, "the file system answers again")
		assert.Empty(t, c.hosts.readings)
	})
}
