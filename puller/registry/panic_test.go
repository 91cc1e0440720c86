package registry_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"iter"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// assertPanics calls fn, which must panic with cause, or with an error that wraps cause and
// whose text has the stack of the callback.
func assertPanics(t *testing.T, cause error, fn func() error) {
	t.Helper()
	defer func() {
		t.Helper()
		err, _ := recover().(error)
		assert.ErrorIs(t, err, cause, "what the caller recovers")
		if errors.Unwrap(err) != nil {
			assert.ErrorContains(t, err, cause.Error())
			assert.ErrorContains(t, err, "panic_test.go", "the stack of the callback")
		}
	}()
	assert.Fail(t, "the call returned", "%v", fn())
}

// A panic of a callback of a Client reaches the caller of the Client, even if net/http
// runs the callback in another goroutine. After that the Client is still usable.
func TestPanicsReachTheCaller(t *testing.T) {
	cause := errors.New("a callback panicked")
	reg, _, ref := start(t, pullertest.Config{})
	for name, settings := range map[string]func(explode func()) registry.Config{
		"Proxy": func(explode func()) registry.Config {
			return registry.Config{Proxy: func(*http.Request) (*url.URL, error) { explode(); return nil, nil }}
		},
		"DialContext": func(explode func()) registry.Config {
			return registry.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				explode()
				return new(net.Dialer).DialContext(ctx, network, addr)
			}}
		},
		"HostsReader": func(explode func()) registry.Config {
			return registry.Config{HostsReader: explodingReader(explode)}
		},
		"AllowRealm": func(explode func()) registry.Config {
			return registry.Config{AllowRealm: func(string, *url.URL) bool { explode(); return true },
				WrapTransport: answerOnce(challenge(`Bearer realm="http://127.0.0.1:1/token"`))}
		},
		"MirrorKeyring": func(explode func()) registry.Config {
			return registry.Config{
				Registries:    map[string]registry.Hosts{reg.Host(): {Mirrors: []registry.Host{{URL: "http://127.0.0.1:1"}}}},
				MirrorKeyring: explodingKeyring(explode),
			}
		},
		"WrapTransport": func(explode func()) registry.Config {
			return registry.Config{WrapTransport: instead(roundTripper(func(r *http.Request) (*http.Response, error) {
				explode()
				return http.DefaultTransport.RoundTrip(r)
			}))}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var healed atomic.Bool
			cfg := settings(func() {
				if !healed.Load() {
					panic(cause)
				}
			})
			cfg.PlainHTTP = []string{reg.Host()}
			c := newClient(t, cfg)
			ask := func() error {
				_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, "")
				return err
			}
			assertPanics(t, cause, ask)
			healed.Store(true)
			assert.NoError(t, ask(), "afterwards")
			c.CloseIdleConnections()
		})
	}
}

// answerOnce is a Config.WrapTransport that lets h answer the first request.
func answerOnce(h http.HandlerFunc) func(http.RoundTripper) http.RoundTripper {
	return func(base http.RoundTripper) http.RoundTripper {
		answered := false
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if answered {
				return base.RoundTrip(r)
			}
			answered = true
			return newWorld(map[string]http.HandlerFunc{"http://" + r.URL.Host: h}).RoundTrip(r)
		})
	}
}

// A registry on a public address redirects to a private one.
func TestAPanicOfAllowAddrReachesTheCaller(t *testing.T) {
	cause := errors.New("a callback panicked")
	c := newClient(t, registry.Config{AllowAddr: func(string, netip.Addr) bool { panic(cause) },
		WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": redirectTo("https://10.0.0.1/x")}))})
	assertPanics(t, cause, func() error {
		_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, "")
		return err
	})
}

type explodingReader func()

func (r explodingReader) ReadHosts(string, *x509.CertPool) (registry.Hosts, string, error) {
	r()
	return registry.Hosts{}, "", nil
}

type explodingKeyring func()

func (k explodingKeyring) Lookup(context.Context, reference.Reference) iter.Seq2[credentials.Credential, error] {
	k()
	return func(func(credentials.Credential, error) bool) {}
}

// All calls that wait for a token get the panic of its request.
func TestAPanicOfATokenRequestReachesAllThatWait(t *testing.T) {
	cause := errors.New("the transport panicked")
	const callers = 3
	var asked sync.WaitGroup
	asked.Add(callers)
	w := newWorld(map[string]http.HandlerFunc{
		"https://reg.example": func(w http.ResponseWriter, r *http.Request) {
			asked.Done()
			asked.Wait() // so that all calls need the token at the same time
			challenge(`Bearer realm="https://auth.example/token"`)(w, r)
		},
	})
	c := newClient(t, registry.Config{WrapTransport: instead(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "auth.example" {
			panic(cause)
		}
		return w.RoundTrip(r)
	}))})
	var done sync.WaitGroup
	for range callers {
		done.Go(func() {
			assertPanics(t, cause, func() error {
				_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, "")
				return err
			})
		})
	}
	done.Wait()
}

// A faultyKey is a private key whose Sign panics, as that of a hardware token may.
type faultyKey struct{ crypto.Signer }

func (faultyKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	panic("the token was pulled out")
}

// net/http asks a private key for a signature in another goroutine. A panic there becomes an
// error of the call.
func TestAPanicOfAPrivateKeyBecomesAnError(t *testing.T) {
	ca := realtest.NewCA(t)
	server, _, _ := ca.Issue(t, "server", "127.0.0.1")
	robot, _, _ := ca.Issue(t, "robot", "robot")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := httptest.NewUnstartedServer(text(hello))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert, MinVersion: version, MaxVersion: version}
		s.StartTLS()
		host := strings.TrimPrefix(s.URL, "https://")
		get := func(key crypto.PrivateKey) error {
			cert := robot
			cert.PrivateKey = key
			c := newClient(t, registry.Config{Retries: -1, Registries: map[string]registry.Hosts{host: {Server: registry.Host{RootCAs: ca.Pool, Certificates: []tls.Certificate{cert}}}}})
			defer c.CloseIdleConnections()
			_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse(host + "/app:v1"), Cred: noCredential}, helloBlob())
			return err
		}
		err := get(faultyKey{robot.PrivateKey.(crypto.Signer)})
		assert.ErrorContains(t, err, "the token was pulled out")
		assert.NoError(t, get(robot.PrivateKey))
		s.Close()
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
