package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
)

// transports are the connections of one endpoint. Those to the host itself are
// apart from those to where its answers lead: other TLS settings, other rules
// for addresses. A pooled connection is only used again under the rules it was
// made by.
type transports struct {
	endpoint *endpoint
	mu       sync.Mutex
	byRoute  map[route]*http.Transport
	spokeTLS atomic.Bool // the host once answered with a TLS record
	proxied  atomic.Bool // a request to the host once went to a proxy
}

// A route is what decides which connections a request may use.
type route struct {
	own         bool // to the host itself
	fromPrivate bool // where an answer from a private address led
	bulk        bool // for much content, over https
}

// A hop is one request on its way. The transport fills in what it learns.
type hop struct {
	proxied bool
	remote  net.Addr
}

type hopKey struct{}

// send makes one request to the host itself, or to where an answer led.
func (t *transports) send(req *http.Request, r route) (*http.Response, *hop, error) {
	h := &hop{}
	if err := t.endpoint.checkLiteral(req.URL.Hostname(), r.own || r.fromPrivate); err != nil {
		return nil, h, err
	}
	ctx := context.WithValue(req.Context(), hopKey{}, h)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { h.remote = info.Conn.RemoteAddr() }})
	r.bulk = r.bulk && req.URL.Scheme == "https" // all else is HTTP/1.1 anyway
	resp, err := t.pick(r).RoundTrip(req.WithContext(ctx))
	var panicked *panics.Error
	if errors.As(err, &panicked) { // by a callback that dials; see caught
		panicked.Raise()
	}
	return resp, h, err
}

// private reports whether the answer to a hop came from a private address. What
// comes through a proxy is judged by the name alone.
func (h *hop) private(host string) bool {
	if tcp, ok := h.remote.(*net.TCPAddr); ok && !h.proxied {
		return reachOf(tcp.AddrPort().Addr()) != public
	}
	addr, err := netip.ParseAddr(host)
	return loopbackName(host) || err == nil && reachOf(addr) != public
}

func (t *transports) pick(r route) http.RoundTripper {
	if custom := t.endpoint.client.Transport; custom != nil {
		return custom
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.byRoute[r]
	if tr == nil {
		if t.byRoute == nil {
			t.byRoute = map[route]*http.Transport{}
		}
		tr = t.newTransport(r)
		t.byRoute[r] = tr
	}
	return tr
}

func (t *transports) closeIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tr := range t.byRoute {
		tr.CloseIdleConnections()
	}
}

const (
	maxHeader   = 1 << 20
	idlePerHost = 64
	idleTimeout = 90 * time.Second
	readBuffer  = 32 << 10
)

// newTransport makes the connections of a route. Much content goes over
// HTTP/1.1, each answer on a connection of its own: on the one connection of
// HTTP/2 all of them share one TCP window and one core (BenchmarkParallelTLS: four
// blobs at a time take 1.5 to 3 times as long), and what limits a connection limits
// them all.
func (t *transports) newTransport(r route) *http.Transport {
	ep, c := t.endpoint, t.endpoint.client
	proxy := c.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	conf := &tls.Config{RootCAs: ep.host.RootCAs, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
	if conf.RootCAs == nil {
		conf.RootCAs = c.RootCAs
	}
	if r.own {
		conf.Certificates, conf.InsecureSkipVerify = ep.host.Certificates, ep.host.SkipVerify
	}
	ping := max(c.stall()/3, time.Second)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!r.bulk)
	return &http.Transport{
		Proxy: func(req *http.Request) (*url.URL, error) {
			u, err := proxy(req)
			if h, ok := req.Context().Value(hopKey{}).(*hop); ok {
				h.proxied = u != nil
			}
			if r.own && u != nil {
				t.proxied.Store(true)
				if ep.guessed && req.URL.Scheme == "http" {
					// That http is spoken there is a guess about this machine, and a
					// proxy would read the password.
					return nil, &forbiddenError{"a registry on loopback is not asked over http through a proxy, unless it is listed in Client.PlainHTTP"}
				}
			}
			return u, err
		},
		DialContext:            t.dial(r),
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    c.stall(),
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idlePerHost,
		MaxIdleConns:           2 * idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         readBuffer,
		Protocols:              &protocols,
		// A connection that died without a word is found by a ping; otherwise
		// the next try would go to the same dead connection.
		HTTP2: &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: ping},
	}
}

// dial connects under the rules of the transport.
func (t *transports) dial(r route) func(context.Context, string, string) (net.Conn, error) {
	ep := t.endpoint
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if h, ok := ctx.Value(hopKey{}).(*hop); ok && h.proxied {
			return ep.client.endpoints.counted(ep.connect(ctx, network, addr, nil))
		}
		if r.own && ep.host.DialTimeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, ep.host.DialTimeout)
			defer cancel()
		}
		conn, err := ep.connect(ctx, network, addr, func(a netip.Addr) error { return ep.checkAddr(a, r.own || r.fromPrivate) })
		if err == nil && r.own && ep.guessed {
			conn = &firstByte{Conn: conn, spoke: &t.spokeTLS}
		}
		return ep.client.endpoints.counted(conn, err)
	}
}

// connect dials, and refuses addresses before a byte goes to them.
func (ep *endpoint) connect(ctx context.Context, network, addr string, check func(netip.Addr) error) (conn net.Conn, err error) {
	if custom := ep.client.DialContext; custom != nil {
		err = caught(func() error {
			conn, err = connectWith(ctx, custom, network, addr, check)
			return err
		})
		return conn, err
	}
	return dialName(ctx, network, addr, ep.client.stall(), check)
}

// connectWith is connect with the caller's own way to dial.
func connectWith(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), network, addr string, check func(netip.Addr) error) (net.Conn, error) {
	if literal, err := netip.ParseAddr(hostOnly(addr)); err == nil && check != nil {
		if err := check(literal); err != nil {
			return nil, err
		}
	}
	conn, err := dial(ctx, network, addr)
	if err != nil || check == nil {
		return conn, err
	}
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		if err := check(tcp.AddrPort().Addr()); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

// caught turns a panic of a callback into an error, which the request that the
// connection is for raises again: net/http and package net dial in goroutines of
// their own, where no caller's recover is asked.
func caught(fn func() error) (err error) {
	panics.Catch(func() { err = fn() }, func(panicked *panics.Error) {
		if panicked != nil {
			err = panicked
		}
	})
	return err
}

// checkAddr says whether an address may be dialled.
func (ep *endpoint) checkAddr(addr netip.Addr, mayPrivate bool) error {
	switch reachOf(addr) {
	case linkLocal:
		return &forbiddenError{fmt.Sprintf("%s is a link-local, multicast or cloud metadata address, which is never asked", addr)}
	case private:
		if allow := ep.client.AllowAddr; !mayPrivate && (allow == nil || !allow(ep.registry, addr.Unmap())) {
			return &forbiddenError{fmt.Sprintf("%s is a private address, and registry %q, on a public one, led there", addr, ep.registry)}
		}
	}
	return nil
}

// checkLiteral applies checkAddr to a host that is an address as it stands, so
// that the rule holds through proxies and the caller's own transport too.
func (ep *endpoint) checkLiteral(host string, mayPrivate bool) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		return ep.checkAddr(addr, mayPrivate)
	}
	if loopbackName(host) {
		return ep.checkAddr(netip.AddrFrom4([4]byte{127, 0, 0, 1}), mayPrivate)
	}
	return nil
}

// counted counts a new connection until it is closed.
func (e *endpoints) counted(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	e.conns.Add(1)
	defer e.trim()
	return &countedConn{Conn: conn, open: &e.conns}, nil
}

type countedConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// A firstByte connection notes whether the other side begins with a TLS record.
type firstByte struct {
	net.Conn
	spoke *atomic.Bool
	seen  bool // only the handshake reads before others can
}

func (c *firstByte) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.seen {
		c.seen = true
		// Content types of RFC 8446, section 5.1: change_cipher_spec to application_data.
		if p[0] >= 20 && p[0] <= 23 {
			c.spoke.Store(true)
		}
	}
	return n, err
}
