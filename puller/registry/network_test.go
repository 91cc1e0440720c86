package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/puller/registry/certsd"
	"github.com/pullkit/pullkit/reference"
)

// A registry on loopback is asked over https. It is asked over http only if its answer to a
// TLS handshake is not TLS.
func TestLoopbackIsAskedOverHTTPSFirst(t *testing.T) {
	plain, put, ref := start(t, pullertest.Config{})
	var tr trace
	c := newClient(t, registry.Config{Logger: tr.logger()})
	defer c.CloseIdleConnections()
	require.NoError(t, pull(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, put.Blobs))
	assert.Equal(t, "GET manifest", tr.got()[0], "the first request is made over https")
	require.NoError(t, pull(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, put.Blobs))
	assert.Equal(t, "GET manifest 200", tr.got()[0], "the client remembers that the registry speaks http")
	_ = plain

	secure, put, ref := start(t, pullertest.Config{TLS: true})
	c = newClient(t, registry.Config{Logger: tr.logger()})
	defer c.CloseIdleConnections()
	assert.ErrorIs(t, pull(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, put.Blobs), content.ErrTLS, "a certificate of an unknown authority shows that the server speaks TLS")
	assert.Equal(t, []string{"GET manifest"}, tr.got())
	assert.Zero(t, secure.Counts().Total())
}

// A server that closes the connection in the handshake, or that fails after its first TLS
// record, may speak TLS. So it never gets the password over http.
func TestLoopbackIsNotAskedOverHTTPIfItMaySpeakTLS(t *testing.T) {
	for name, answer := range map[string]string{
		"hangs up":                       "",
		"an alert":                       "\x15\x03\x03\x00\x02\x02\x28",
		"garbage after a record of TLS":  "\x16\x03\x03\x00\x04\x02\x00\x00\x00HTTP/1.1 400 Bad Request\r\n\r\n",
		"a record that is far too large": "\x16\x03\x03\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer ln.Close()
			c := newClient(t, registry.Config{Retries: -1})
			defer c.CloseIdleConnections()
			failed := make(chan error, 1)
			go func() {
				_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse(ln.Addr().String() + "/app:v1"), Cred: robot}, "")
				failed <- err
				_ = ln.Close()
			}()
			for {
				conn, err := ln.Accept()
				if err != nil {
					break
				}
				first := make([]byte, 5)
				_, _ = io.ReadFull(conn, first)
				assert.Equal(t, byte(22), first[0], "the client sends only TLS handshakes: %q", first)
				_, _ = io.WriteString(conn, answer)
				_ = conn.Close()
			}
			assert.Error(t, <-failed)
		})
	}
}

// A broken connection does not show that the server does not speak TLS.
func TestABrokenConnectionDoesNotMeanPlainHTTP(t *testing.T) {
	for _, secure := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var network pullertest.Network
			reg, _, ref := start(t, pullertest.Config{TLS: secure, Network: &network})
			var tr trace
			dials := 0
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(reg.CA())
			c := newClient(t, registry.Config{Logger: tr.logger(), RootCAs: roots, DialContext: func(ctx context.Context, n, addr string) (net.Conn, error) {
				if dials++; dials <= 2 {
					client, server := net.Pipe()
					_ = server.Close()
					return client, nil
				}
				return network.DialContext(ctx, n, addr)
			}})
			for range 2 {
				_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, "")
				assert.NoError(t, err, "TLS %v", secure)
			}
			got := tr.got()
			assert.Equal(t, "GET manifest 200", got[len(got)-1])
			assert.LessOrEqual(t, len(got), 5)
			c.CloseIdleConnections()
			assert.NoError(t, reg.Close())
		})
	}
}

// A registry on loopback that spoke http is asked over https again after it starts to
// speak TLS.
func TestLoopbackIsAskedOverHTTPSAgainIfItSpeaksTLS(t *testing.T) {
	plain, _, _ := start(t, pullertest.Config{})
	secure, _, ref := start(t, pullertest.Config{TLS: true})
	host := plain.Host()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(secure.CA()))
	c := newClient(t, registry.Config{RootCAs: roots, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, host)
	}})
	_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	require.NoError(t, err)
	c.CloseIdleConnections()
	host = secure.Host()
	_, err = c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	assert.ErrorIs(t, err, content.ErrStatus, "the answer of a TLS server to http")
	_, err = c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	assert.NoError(t, err)
	c.CloseIdleConnections()
}

// A registry that is not on loopback is asked over http only if PlainHTTP lists it.
func TestNoRegistryIsAskedOverHTTPUnlessItIsListed(t *testing.T) {
	plain, _, _ := start(t, pullertest.Config{})
	dialed := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, plain.Host())
	}
	ref := reference.MustParse("reg.example:5000/team/app:v1")
	c := newClient(t, registry.Config{DialContext: dialed, Retries: -1})
	defer c.CloseIdleConnections()
	_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	assert.ErrorIs(t, err, content.ErrTLS)
	assert.EqualError(t, err, "reg.example:5000: TLS failure: tls: first record does not look like a TLS handshake; if it speaks plain http, list it in Config.PlainHTTP")
	assert.Zero(t, plain.Counts().Total())
	for _, entry := range []string{"REG.example:5000", "http://reg.example:5000", "HTTP://reg.example:5000/"} {
		listed := newClient(t, registry.Config{DialContext: dialed, PlainHTTP: []string{entry}})
		_, err = listed.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
		assert.NoError(t, err, entry)
		listed.CloseIdleConnections()
	}
	for _, entry := range []string{"", "http://", "/", "https://reg.example:5000", "http://reg.example:5000/v2", "user@reg.example:5000", "reg.example:5000?x"} {
		_, err = registry.New(registry.Config{PlainHTTP: []string{entry}})
		assert.ErrorContains(t, err, "is not a host[:port]", entry)
	}
	other := newClient(t, registry.Config{DialContext: dialed, PlainHTTP: []string{"reg.example"}, Retries: -1}) // PlainHTTP lists the host with another port
	_, err = other.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	assert.ErrorIs(t, err, content.ErrTLS)
	other.CloseIdleConnections()
}

// If a registry does not speak TLS, the error advises to list it in PlainHTTP. For a host
// with a URL it advises to change the URL. For a server that an answer named it has no
// advice.
func TestTheErrorAdvisesOnlyWhatHelps(t *testing.T) {
	plain, _, _ := start(t, pullertest.Config{})
	dialed := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, plain.Host())
	}
	ref := reference.MustParse("reg.example/team/app:v1")
	c := newClient(t, registry.Config{DialContext: dialed, Retries: -1, PlainHTTP: []string{"reg.example"},
		Registries: map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "https://m.example", Can: registry.CanPull}}, Server: registry.Host{URL: "https://server.example"}}}})
	defer c.CloseIdleConnections()
	_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	assert.ErrorContains(t, err, "server.example: TLS failure: ")
	assert.ErrorContains(t, err, "; if it speaks plain http, write http:// in its URL")
	assert.NotContains(t, err.Error(), "PlainHTTP")

	s := httptest.NewServer(redirectTo("https://cdn.example/x"))
	defer s.Close()
	c = newClient(t, registry.Config{Retries: -1, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == "reg.example:80" {
			addr = s.Listener.Addr().String()
		} else {
			addr = plain.Host()
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}, PlainHTTP: []string{"reg.example"}})
	defer c.CloseIdleConnections()
	_, err = c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	assert.EqualError(t, err, "cdn.example: TLS failure: tls: first record does not look like a TLS handshake")
}

// A nameNetwork is a network in which each host name leads to a test server. The
// connections show another address than the server's own.
type nameNetwork struct {
	servers map[string]*httptest.Server // by host:port
	addrs   map[string]string           // the address that the connection shows
	mu      sync.Mutex
	dialed  []string
}

func (n *nameNetwork) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, addr)
	n.mu.Unlock()
	s := n.servers[addr]
	if s == nil {
		return nil, errors.New("connection refused")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	return &namedConn{conn, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(n.addrs[addr]))}, nil
}

type namedConn struct {
	net.Conn
	remote net.Addr
}

func (c *namedConn) RemoteAddr() net.Addr { return c.remote }

// namedServers returns a test authority, and a function that starts servers with a
// certificate for reg.example and cdn.example.
func namedServers(t *testing.T) (*realtest.CA, func(http.HandlerFunc) *httptest.Server) {
	ca := realtest.NewCA(t)
	cert, _, _ := ca.Issue(t, "all", "reg.example", "cdn.example")
	return ca, func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
}

// Whether a host may be asked depends on the address to which its name resolves.
func TestTheAddressOfANameDecides(t *testing.T) {
	ca, serve := namedServers(t)
	n := &nameNetwork{servers: map[string]*httptest.Server{
		"reg.example:443": serve(redirectTo("https://cdn.example/x")),
		"cdn.example:443": serve(text(hello)),
	}}
	for _, tt := range []struct {
		reg, cdn string
		allow    bool
		want     content.Reason
	}{
		{"203.0.113.1:443", "203.0.113.2:443", false, ""},
		{"203.0.113.1:443", "10.0.0.1:443", false, content.ErrForbiddenURL},
		{"203.0.113.1:443", "127.0.0.1:443", false, content.ErrForbiddenURL},
		{"203.0.113.1:443", "169.254.169.254:443", false, content.ErrForbiddenURL},
		{"203.0.113.1:443", "10.0.0.1:443", true, ""},
		{"203.0.113.1:443", "169.254.169.254:443", true, content.ErrForbiddenURL},
		{"10.0.0.5:443", "10.0.0.1:443", false, ""},
		{"10.0.0.5:443", "[fe80::1]:443", false, content.ErrForbiddenURL},
		{"127.0.0.1:443", "10.0.0.1:443", false, ""},
		{"169.254.1.1:443", "203.0.113.2:443", true, content.ErrForbiddenURL},
	} {
		n.addrs = map[string]string{"reg.example:443": tt.reg, "cdn.example:443": tt.cdn}
		cfg := registry.Config{RootCAs: ca.Pool, DialContext: n.dial}
		if tt.allow {
			cfg.AllowAddr = func(reg string, _ netip.Addr) bool { return reg == "reg.example" }
		}
		c := newClient(t, cfg)
		_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, helloBlob())
		assert.Equal(t, tt.want, content.ReasonOf(err), "%+v: %v", tt, err)
		c.CloseIdleConnections()
	}
}

// Addresses are also checked if Config has no DialContext.
func TestAddressesAreCheckedWithoutADialContext(t *testing.T) {
	reg, _, _ := start(t, pullertest.Config{})
	// The check is made when the connection is dialled.
	u := "http://" + reg.Host()
	c := newClient(t, registry.Config{PlainHTTP: []string{reg.Host()}})
	defer c.CloseIdleConnections()
	_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse(reg.Host() + "/team/app:v1"), Cred: noCredential}, "")
	require.NoError(t, err, u)
	c = newClient(t, registry.Config{PlainHTTP: []string{"169.254.169.254"}, Retries: -1})
	_, err = c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("169.254.169.254/team/app:v1"), Cred: noCredential}, "")
	assert.ErrorIs(t, err, content.ErrForbiddenURL)
}

// The registry redirects to another host, which does not get the certificate or the header.
func TestAClientCertificateIsShownOnlyToItsHost(t *testing.T) {
	ca := realtest.NewCA(t)
	server, _, _ := ca.Issue(t, "server", "127.0.0.1")
	_, certFile, keyFile := ca.Issue(t, "robot", "robot")
	serve := func(h http.HandlerFunc) (string, *[]string) {
		var shown []string
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			name := "nobody"
			if len(r.TLS.PeerCertificates) > 0 {
				name = r.TLS.PeerCertificates[0].Subject.CommonName
			}
			shown = append(shown, name+" "+r.Header.Get("X-Key"))
			h(w, r)
		}))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL, &shown
	}
	cdn, toCDN := serve(text(hello))
	reg, toReg := serve(redirectTo(cdn + "/x"))
	host := strings.TrimPrefix(reg, "https://")
	dir := t.TempDir()
	hostDir := filepath.Join(dir, strings.Replace(host, ":", "_", 1)+"_") // Windows has no file names with a colon
	require.NoError(t, os.Mkdir(hostDir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(hostDir, "hosts.toml"), []byte(`
server = "`+reg+`"
ca = '`+ca.File+`'
client = [['`+certFile+`', '`+keyFile+`']]
[header]
  X-Key = "for the registry"
`), 0o600))
	c := newClient(t, registry.Config{HostsReader: certsd.Dir(dir)})
	defer c.CloseIdleConnections()
	_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse(host + "/app:v1"), Cred: noCredential}, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, []string{"robot for the registry"}, *toReg)
	assert.Equal(t, []string{"nobody "}, *toCDN)
}

// SkipVerify of one registry does not affect another registry.
func TestSkipVerifyIsForOneHostOnly(t *testing.T) {
	reg, _, ref := start(t, pullertest.Config{TLS: true})
	other, _, otherRef := start(t, pullertest.Config{TLS: true})
	c := newClient(t, registry.Config{Registries: map[string]registry.Hosts{reg.Host(): {Server: registry.Host{SkipVerify: true}}}})
	defer c.CloseIdleConnections()
	_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, "")
	assert.NoError(t, err)
	_, err = c.Manifest(t.Context(), content.Repo{Ref: otherRef, Cred: noCredential}, "")
	assert.ErrorIs(t, err, content.ErrTLS, other.Host())
}

// The authorities of a registry are trusted where it redirects to, and its SkipVerify is not
// for the servers there.
func TestSkipVerifyIsNotForTheTargetOfARedirect(t *testing.T) {
	ca := realtest.NewCA(t)
	cert, _, _ := ca.Issue(t, "all", "127.0.0.1")
	serve := func(h http.HandlerFunc) string {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	cdn := serve(text(hello))
	host := strings.TrimPrefix(serve(redirectTo(cdn+"/x")), "https://")
	for _, tt := range []struct {
		server registry.Host
		want   content.Reason
	}{
		{registry.Host{RootCAs: ca.Pool}, ""},
		{registry.Host{SkipVerify: true}, content.ErrTLS},
	} {
		c := newClient(t, registry.Config{Retries: -1, Registries: map[string]registry.Hosts{host: {Server: tt.server}}})
		_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse(host + "/app:v1"), Cred: noCredential}, helloBlob())
		assert.Equal(t, tt.want, content.ReasonOf(err), "%v", err)
		if err != nil {
			assert.ErrorContains(t, err, strings.TrimPrefix(cdn, "https://"))
		}
		c.CloseIdleConnections()
	}
}

// A request for 1 MiB of a blob or more uses HTTP/1.1, and one for less HTTP/2.
func TestOnlyRequestsForLargePartsUseHTTP1(t *testing.T) {
	blob := make([]byte, 1<<20)
	var protocols []string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols = append(protocols, r.Proto)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	c := newClient(t, registry.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	defer c.CloseIdleConnections()
	repo := content.Repo{Ref: reference.MustParse(s.Listener.Addr().String() + "/app:v1"), Cred: noCredential}
	for _, n := range []int64{1<<20 - 1, 1 << 20} {
		body, err := c.Blob(t.Context(), repo, ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}, 0, n)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, body)
		require.NoError(t, err)
		require.NoError(t, body.Close())
	}
	assert.Equal(t, []string{"HTTP/2.0", "HTTP/1.1"}, protocols)
}

// The headers of an answer may have 1 MiB.
func TestTheHeadersOfAnAnswerAreLimited(t *testing.T) {
	for size, ok := range map[int]bool{900 << 10: true, 1<<20 + 1: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("h", size))
			text(hello)(w, r)
		}))
		host := s.Listener.Addr().String()
		c := newClient(t, registry.Config{Retries: -1, PlainHTTP: []string{host}})
		_, err := read(t.Context(), c, content.Repo{Ref: reference.MustParse(host + "/app:v1"), Cred: noCredential}, helloBlob())
		assert.Equal(t, ok, err == nil, "%v", err)
		c.CloseIdleConnections()
		s.Close()
	}
}

// The urls of a descriptor lead to other servers, which are not asked.
func TestTheURLsOfADescriptorAreNotAsked(t *testing.T) {
	w := newWorld(map[string]http.HandlerFunc{"https://reg.example": status(404), "https://other.example": text(hello)})
	desc := helloBlob()
	desc.MediaType, desc.URLs = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []string{"https://other.example/layer"}
	_, err := read(t.Context(), newClient(t, registry.Config{WrapTransport: instead(w)}), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, desc)
	assert.ErrorIs(t, err, content.ErrNotFound)
	assert.Equal(t, []string{"GET https://reg.example" + helloPath}, w.asked())
}

// For a request through a proxy, the host in the URL is checked. The proxy itself may have
// any address.
func TestThroughAProxyTheHostOfTheURLIsChecked(t *testing.T) {
	reg, _, _ := start(t, pullertest.Config{})
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if strings.Contains(r.URL.Path, "/blobs/") {
			redirectTo("http://10.0.0.1/x")(w, r)
			return
		}
		serveAll(w, r)
	}))
	defer proxy.Close()
	_ = reg
	c := newClient(t, registry.Config{PlainHTTP: []string{"reg.example"}, Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }})
	defer c.CloseIdleConnections()
	ref := reference.MustParse("reg.example/app:v1")
	_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: noCredential}, "")
	require.NoError(t, err)
	_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: noCredential}, helloBlob())
	assert.ErrorIs(t, err, content.ErrForbiddenURL)
	assert.Equal(t, []string{"http://reg.example/v2/app/manifests/v1", "http://reg.example" + helloPath}, asked)
}

// The same holds for the second request over a connection of HTTP/2 through a proxy, for
// which net/http does not ask Config.Proxy.
func TestThroughAProxyOfHTTP2TheHostOfTheURLIsChecked(t *testing.T) {
	ca := realtest.NewCA(t)
	cert, _, _ := ca.Issue(t, "reg", "reg.example")
	var protocols []string
	reg := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols = append(protocols, r.Proto)
		if strings.Contains(r.URL.Path, "/blobs/") {
			redirectTo("https://10.0.0.1/x")(w, r)
			return
		}
		serveAll(w, r)
	}))
	reg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	reg.EnableHTTP2 = true
	reg.StartTLS()
	defer reg.Close()
	var connects []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects = append(connects, r.Host)
		if r.Host != "reg.example:443" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		out, err := net.Dial("tcp", reg.Listener.Addr().String())
		if !assert.NoError(t, err) {
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if !assert.NoError(t, err) {
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(out, in)
			_ = out.Close()
		}()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	}))
	defer proxy.Close()
	c := newClient(t, registry.Config{Retries: -1, RootCAs: ca.Pool, Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(proxy.URL) }})
	defer c.CloseIdleConnections()
	repo := content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}
	_, err := c.Manifest(t.Context(), repo, "")
	require.NoError(t, err)
	_, err = read(t.Context(), c, repo, helloBlob())
	assert.ErrorIs(t, err, content.ErrForbiddenURL)
	assert.Equal(t, []string{"HTTP/2.0", "HTTP/2.0"}, protocols)
	assert.Equal(t, []string{"reg.example:443"}, connects)
}

// Ten rounds of eight pulls at a time need few connections.
func TestManyBlobsNeedFewConnections(t *testing.T) {
	for _, secure := range []bool{false, true} {
		reg, put, ref := start(t, pullertest.Config{TLS: secure, Auth: pullertest.AuthBearer})
		var mu sync.Mutex
		dials := 0
		cfg := registry.Config{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			dials++
			mu.Unlock()
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}}
		if secure {
			cfg.RootCAs = x509.NewCertPool()
			cfg.RootCAs.AppendCertsFromPEM(reg.CA())
		} else {
			cfg.PlainHTTP = []string{reg.Host()}
		}
		c := newClient(t, cfg)
		for range 10 {
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { assert.NoError(t, pull(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, put.Blobs)) })
			}
			wg.Wait()
		}
		c.CloseIdleConnections()
		// Eight connections are used at the same time. The client dials a few more, which
		// it does not need because another connection becomes free first.
		assert.LessOrEqual(t, dials, 20, "TLS %v", secure)
	}
}

// A registry with a loopback name is not asked over http through a proxy. That holds for
// each answer of the proxy to CONNECT, and for a proxy for http, for https and for both.
// The password does not leave the process.
func TestNoPlainHTTPThroughAProxy(t *testing.T) {
	for name, connect := range map[string]func(w http.ResponseWriter, r *http.Request){
		"refuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"hangs up": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		},
		"answers what is not TLS": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		},
	} {
		for _, schemes := range []string{"http https", "https", "http"} {
			t.Run(name+" "+schemes, func(t *testing.T) {
				var mu sync.Mutex
				var seen []string
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					seen = append(seen, r.Method+" "+r.Header.Get("Authorization"))
					mu.Unlock()
					if r.Method == http.MethodConnect {
						connect(w, r)
						return
					}
					challenge(`Basic realm="proxy"`)(w, r)
				}))
				defer server.Close()
				proxy, err := url.Parse(server.URL)
				require.NoError(t, err)
				c := newClient(t, registry.Config{Retries: -1, Proxy: func(req *http.Request) (*url.URL, error) {
					if slices.Contains(strings.Fields(schemes), req.URL.Scheme) {
						return proxy, nil
					}
					return nil, nil
				}})
				defer c.CloseIdleConnections()
				for range 2 {
					_, err = c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("registry.localhost:1/app:v1"), Cred: robot}, "")
					assert.Error(t, err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, line := range seen {
					assert.Equal(t, "CONNECT ", line)
				}
			})
		}
	}
}
