package registry_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// A distance is a network in memory in which each answer arrives after roundTrip. It counts
// the connections.
type distance struct {
	pullertest.Network
	roundTrip   time.Duration
	dials, open atomic.Int64
	mu          sync.Mutex
	conns       []net.Conn
}

func (d *distance) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	d.dials.Add(1)
	d.open.Add(1)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, conn)
	return &distantConn{Conn: conn, distance: d}, nil
}

// A distantConn delays the first bytes that are read after each write.
type distantConn struct {
	net.Conn
	distance *distance
	written  atomic.Bool
	closed   sync.Once
}

func (c *distantConn) Write(p []byte) (int, error) {
	c.written.Store(true)
	return c.Conn.Write(p)
}

func (c *distantConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.written.Swap(false) {
		time.Sleep(c.distance.roundTrip)
	}
	return n, err
}

func (c *distantConn) Close() error {
	c.closed.Do(func() { c.distance.open.Add(-1) })
	return c.Conn.Close()
}

// A proxyConn is a connection to a proxy. It answers CONNECT itself, and passes on all that
// follows.
type proxyConn struct {
	net.Conn
	asked, answered bool
}

func (c *proxyConn) Write(p []byte) (int, error) {
	if c.asked {
		return c.Conn.Write(p)
	}
	c.asked = true
	return len(p), nil
}

func (c *proxyConn) Read(p []byte) (int, error) {
	if c.answered {
		return c.Conn.Read(p)
	}
	c.answered = true
	return copy(p, "HTTP/1.1 200 OK\r\n\r\n"), nil
}

// A farRegistry is a registry at a distance, with one image whose layers have 1 MiB each,
// and a Client of it.
type farRegistry struct {
	*distance
	reg    *pullertest.Registry
	client *registry.Client
	repo   content.Repo
	layers []ocispec.Descriptor
}

func newFarRegistry(t *testing.T, roundTrip time.Duration, layers int, conf pullertest.Config, change func(*registry.Config)) *farRegistry {
	f := &farRegistry{distance: &distance{roundTrip: roundTrip}}
	conf.Network, conf.Addr = &f.Network, "reg.example:443"
	reg, err := pullertest.Start(conf)
	require.NoError(t, err)
	f.reg = reg
	sizes := make([]int64, layers)
	for i := range sizes {
		sizes[i] = 1 << 20
	}
	put, err := reg.PutImage("app:v1", pullertest.ImageSpec{Layers: sizes})
	require.NoError(t, err)
	for _, b := range put.Blobs {
		if b.Size >= 1<<20 {
			f.layers = append(f.layers, b)
		}
	}
	require.Len(t, f.layers, layers)
	cfg := registry.Config{DialContext: f.dial, Retries: -1, RootCAs: x509.NewCertPool()}
	cfg.RootCAs.AppendCertsFromPEM(reg.CA())
	if change != nil {
		change(&cfg)
	}
	f.client = newClient(t, cfg)
	f.repo = content.Repo{Ref: reference.MustParse("reg.example:443/app:v1")}
	return f
}

func (f *farRegistry) manifest(t *testing.T) {
	t.Helper()
	_, err := f.client.Manifest(t.Context(), f.repo, "")
	require.NoError(t, err)
}

// blobs reads all layers at the same time, and returns how long it took to open the last
// one.
func (f *farRegistry) blobs(t *testing.T) time.Duration {
	began := time.Now()
	var last atomic.Int64
	var wg sync.WaitGroup
	for _, layer := range f.layers {
		wg.Go(func() {
			body, err := f.client.Blob(t.Context(), f.repo, layer, 0, -1)
			if !assert.NoError(t, err) {
				return
			}
			for took := int64(time.Since(began)); ; {
				if before := last.Load(); took <= before || last.CompareAndSwap(before, took) {
					break
				}
			}
			_, err = io.Copy(io.Discard, body)
			assert.NoError(t, err)
			assert.NoError(t, body.Close())
		})
	}
	wg.Wait()
	return time.Duration(last.Load())
}

// end closes the client and the registry, and checks that no connection is left.
func (f *farRegistry) end(t *testing.T) {
	synctest.Wait() // until the last stream has ended
	f.client.CloseIdleConnections()
	time.Sleep(f.roundTrip)
	synctest.Wait()
	assert.Zero(t, f.open.Load(), "connections")
	require.NoError(t, f.reg.Close())
	synctest.Wait()
}

// TestConnectionsForBlobsAreOpenedAhead: while the manifest of a registry that is far away
// is on its way, connections for blobs are opened, so that no blob waits for a handshake.
// No request is sent before the blobs are asked for.
func TestConnectionsForBlobsAreOpenedAhead(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		f := newFarRegistry(t, roundTrip, 10, pullertest.Config{TLS: true}, nil)
		f.manifest(t)
		time.Sleep(2 * roundTrip) // as long as the manifest of the platform may take
		assert.EqualValues(t, 11, f.dials.Load())
		assert.Equal(t, 1, f.reg.Counts().Total())
		assert.Equal(t, roundTrip, f.blobs(t))
		assert.EqualValues(t, 11, f.dials.Load())
		f.manifest(t)
		assert.Equal(t, roundTrip, f.blobs(t), "the second image uses the same connections")
		assert.EqualValues(t, 11, f.dials.Load())
		f.end(t)
	})
	synctest.Test(t, func(t *testing.T) {
		conf := pullertest.Config{TLS: true, Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}}
		f := newFarRegistry(t, roundTrip, 10, conf, nil)
		f.repo.Cred = robot
		f.manifest(t)
		assert.Equal(t, roundTrip, f.blobs(t), "the connections are opened while the token is on its way")
		assert.EqualValues(t, 11, f.dials.Load())
		f.end(t)
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFarRegistry(t, roundTrip, 10, pullertest.Config{TLS: true}, nil)
		f.manifest(t)
		assert.Less(t, f.blobs(t), 3*roundTrip, "blobs wait for connections that are still being opened")
		assert.EqualValues(t, 11, f.dials.Load())
		f.end(t)
	})
}

// TestUnusedConnectionsAreClosed: unused connections that were opened ahead are closed
// after ten seconds. For ten minutes after that no connection is opened ahead to that
// host.
func TestUnusedConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarRegistry(t, 100*time.Millisecond, 0, pullertest.Config{TLS: true}, nil)
		f.manifest(t)
		time.Sleep(9 * time.Second)
		assert.EqualValues(t, 11, f.open.Load())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.EqualValues(t, 1, f.open.Load())
		f.manifest(t)
		time.Sleep(9 * time.Minute)
		f.manifest(t)
		assert.EqualValues(t, 1, f.open.Load())
		time.Sleep(time.Minute)
		f.manifest(t)
		time.Sleep(time.Second)
		assert.EqualValues(t, 11, f.open.Load())
		f.end(t)
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFarRegistry(t, 100*time.Millisecond, 0, pullertest.Config{TLS: true}, nil)
		f.manifest(t)
		f.end(t) // closes connections that are still being opened
	})
}

// If the server has closed a connection that was opened ahead, no request fails because
// of it: another connection is dialled.
func TestAConnectionThatTheServerClosedIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarRegistry(t, 100*time.Millisecond, 2, pullertest.Config{TLS: true}, nil)
		f.manifest(t)
		time.Sleep(time.Second)
		f.mu.Lock()
		for _, conn := range f.conns[1:] {
			require.NoError(t, conn.Close())
		}
		f.mu.Unlock()
		synctest.Wait()
		f.blobs(t)
		assert.EqualValues(t, 13, f.dials.Load())
		f.end(t)
	})
}

// A tunnelConn is a connection whose deadlines fail or, if ignored is true, do nothing.
type tunnelConn struct {
	net.Conn
	ignored bool
}

func (c tunnelConn) SetReadDeadline(time.Time) error {
	if c.ignored {
		return nil
	}
	return errors.ErrUnsupported
}

func (c tunnelConn) SetWriteDeadline(t time.Time) error { return c.SetReadDeadline(t) }
func (c tunnelConn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }

// Connections without deadlines that were opened ahead are closed, and others are dialled.
// No connection is opened ahead to the host again for ten minutes.
func TestConnectionsWithoutDeadlinesAreClosed(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	for ignored, most := range map[bool]time.Duration{false: 3 * roundTrip, true: 3*roundTrip + time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := newFarRegistry(t, roundTrip, 3, pullertest.Config{TLS: true}, func(c *registry.Config) {
				dial := c.DialContext
				c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					conn, err := dial(ctx, network, addr)
					return tunnelConn{conn, ignored}, err
				}
			})
			f.manifest(t)
			time.Sleep(time.Second)
			assert.EqualValues(t, 11, f.open.Load())
			assert.LessOrEqual(t, f.blobs(t), most)
			synctest.Wait()
			assert.EqualValues(t, 1+3, f.open.Load())
			f.client.CloseIdleConnections()
			synctest.Wait()
			f.manifest(t)
			time.Sleep(time.Second)
			assert.EqualValues(t, 1, f.open.Load())
			f.end(t)
		})
	}
}

// TestARequestThroughAProxyGetsNoConnectionToTheHost: if only blobs go through a proxy on
// https, the proxy is dialled for them. Its password does not go to the host over a
// connection that was opened ahead.
func TestARequestThroughAProxyGetsNoConnectionToTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proxyDials := 0
		f := newFarRegistry(t, 100*time.Millisecond, 1, pullertest.Config{TLS: true}, func(c *registry.Config) {
			c.Proxy = func(r *http.Request) (*url.URL, error) {
				if strings.Contains(r.URL.Path, "/manifests/") {
					return nil, nil
				}
				return url.Parse("https://user:proxy-pass@proxy.example:443")
			}
			dial := c.DialContext
			c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if addr == "proxy.example:443" {
					proxyDials++
					return nil, errors.New("the proxy is down")
				}
				return dial(ctx, network, addr)
			}
		})
		f.manifest(t)
		time.Sleep(time.Second)
		assert.EqualValues(t, 11, f.open.Load())
		_, err := f.client.Blob(t.Context(), f.repo, f.layers[0], 0, -1)
		assert.ErrorContains(t, err, "the proxy is down")
		assert.Equal(t, 1, proxyDials)
		assert.Equal(t, 1, f.reg.Counts().Total(), "the host gets no request for a blob, and no CONNECT")
		f.end(t)
	})
}

// Connections count as open while they are being opened, so that many registries that are
// asked at the same time get no more than half of the connections that a Client keeps.
func TestConnectionsAheadHaveALimitInAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarRegistry(t, 100*time.Millisecond, 0, pullertest.Config{TLS: true}, func(c *registry.Config) {
			dial := c.DialContext
			c.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dial(ctx, network, "reg.example:443")
			}
		})
		var wg sync.WaitGroup
		const registries = 40
		for i := range registries {
			wg.Go(func() {
				repo := content.Repo{Ref: reference.MustParse(fmt.Sprintf("reg.example:%d/app:v1", 1000+i))}
				_, err := f.client.Manifest(t.Context(), repo, "")
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		assert.LessOrEqual(t, f.open.Load(), int64(128+10))
		assert.Greater(t, f.open.Load(), int64(registries))
		f.end(t)
	})
}

// Connections are opened ahead only where they save time, and only by the Client's own
// transport and without a proxy.
func TestNoConnectionIsOpenedAheadWhereItSavesNothing(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	secure := pullertest.Config{TLS: true}
	for name, tt := range map[string]struct {
		roundTrip time.Duration
		conf      pullertest.Config
		change    func(*registry.Config)
		ask       func(*testing.T, *farRegistry)
	}{
		"the host is near":            {time.Millisecond, secure, nil, nil},
		"the host is asked over http": {roundTrip, pullertest.Config{}, func(c *registry.Config) { c.PlainHTTP = []string{"reg.example:443"} }, nil},
		"a HEAD is enough": {roundTrip, secure, nil, func(t *testing.T, f *farRegistry) {
			_, err := f.client.Resolve(t.Context(), f.repo)
			require.NoError(t, err)
		}},
		"the image does not exist": {roundTrip, secure, nil, func(t *testing.T, f *farRegistry) {
			f.repo.Ref = reference.MustParse("reg.example:443/other:v1")
			_, err := f.client.Manifest(t.Context(), f.repo, "")
			require.ErrorIs(t, err, content.ErrNotFound)
		}},
		"the host is not asked for blobs": {roundTrip, secure, func(c *registry.Config) {
			c.Registries = map[string]registry.Hosts{"reg.example:443": {Server: registry.Host{Can: registry.CanResolve}}}
		}, nil},
		"the host limits requests": {roundTrip, secure, func(c *registry.Config) {
			c.Retries = 1
			limited := false
			c.WrapTransport = func(base http.RoundTripper) http.RoundTripper {
				return roundTripper(func(req *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(req)
					if err == nil && !limited {
						limited, resp.StatusCode = true, 429
					}
					return resp, err
				})
			}
		}, nil},
		"the host redirects blobs": {roundTrip, secure, func(c *registry.Config) {
			c.WrapTransport = func(base http.RoundTripper) http.RoundTripper {
				storage := newWorld(map[string]http.HandlerFunc{
					"https://reg.example:443": redirectTo("https://storage.example/b"), "https://storage.example": text(hello)})
				return roundTripper(func(req *http.Request) (*http.Response, error) {
					if strings.Contains(req.URL.Path, "/manifests/") {
						return base.RoundTrip(req)
					}
					return storage.RoundTrip(req)
				})
			}
		}, func(t *testing.T, f *farRegistry) {
			_, err := read(t.Context(), f.client, f.repo, helloBlob())
			require.NoError(t, err)
			f.manifest(t)
		}},
		"the transport is the caller's": {roundTrip, secure, func(c *registry.Config) {
			own := &http.Transport{DialContext: c.DialContext, TLSClientConfig: &tls.Config{RootCAs: c.RootCAs}, DisableKeepAlives: true}
			c.WrapTransport = instead(own)
		}, nil},
		"requests go through a proxy": {roundTrip, secure, func(c *registry.Config) {
			c.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.example:3128"})
			dial := c.DialContext
			c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				assert.Equal(t, "proxy.example:3128", addr)
				conn, err := dial(ctx, network, "reg.example:443")
				return &proxyConn{Conn: conn}, err
			}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFarRegistry(t, tt.roundTrip, 0, tt.conf, tt.change)
				if tt.ask == nil {
					tt.ask = func(t *testing.T, f *farRegistry) { f.manifest(t) }
				}
				tt.ask(t, f)
				time.Sleep(time.Second)
				assert.EqualValues(t, 1, f.dials.Load())
				f.end(t)
			})
		})
	}
}

// TestPullsThatStartTogetherShareOneRefusal: four pulls that start at the same time, from
// a registry that is far away, cost one refusal and one token in all.
func TestPullsThatStartTogetherShareOneRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := pullertest.Config{TLS: true, Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}}
		f := newFarRegistry(t, 200*time.Millisecond, 0, conf, nil)
		f.repo.Cred = robot
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_, err := f.client.Manifest(t.Context(), f.repo, "")
				assert.NoError(t, err)
			})
		}
		wg.Wait()
		counts := f.reg.Counts()
		assert.Equal(t, 1, counts.Unauthorized)
		assert.Equal(t, 1, counts.Token)
		assert.Equal(t, 1+4, counts.ManifestGet)
		f.end(t)
	})
}

// If the first of several pulls is cancelled before the registry has answered, or gets an
// answer that says nothing of authenticating, one of the others takes its place. The
// others cost one refusal in all.
func TestAPullThatEndsWithoutAnAnswerHasASuccessor(t *testing.T) {
	for name, tt := range map[string]struct {
		timeout  time.Duration // of the first pull
		busy     bool          // its request is answered by 503
		refusals int           // also of the request that was cancelled
	}{"cancelled": {250 * time.Millisecond, false, 2}, "503": {time.Hour, true, 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conf := pullertest.Config{TLS: true, Auth: pullertest.AuthBearer, Users: []pullertest.User{{Name: "robot", Password: "s3cret-pass"}}}
				f := newFarRegistry(t, 200*time.Millisecond, 0, conf, func(c *registry.Config) {
					c.WrapTransport = func(base http.RoundTripper) http.RoundTripper {
						return roundTripper(func(req *http.Request) (*http.Response, error) {
							if tt.busy {
								tt.busy = false
								time.Sleep(200 * time.Millisecond)
								return code(503)(req)
							}
							return base.RoundTrip(req)
						})
					}
				})
				f.repo.Cred = robot
				var wg sync.WaitGroup
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
					defer cancel()
					_, err := f.client.Manifest(ctx, f.repo, "")
					assert.Error(t, err)
				})
				synctest.Wait()
				for range 8 {
					wg.Go(func() {
						_, err := f.client.Manifest(t.Context(), f.repo, "")
						assert.NoError(t, err)
					})
				}
				wg.Wait()
				assert.Equal(t, tt.refusals, f.reg.Counts().Unauthorized)
				assert.Equal(t, 1, f.reg.Counts().Token)
				f.end(t)
			})
		})
	}
}
