package registry

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/puller/content"
)

// A transportKey says which connections a request may use. Requests to the host itself
// and requests to servers that its answers name have different TLS settings and
// different rules for addresses. A connection is therefore used again only for requests
// under the same rules.
type transportKey struct {
	own         bool // to the host itself
	fromPrivate bool // to a server that an answer from a private address named
	bulk        bool // for at least bulkSize bytes, over https
}

// A requestInfo is filled in by the transport while it sends one HTTP request.
type requestInfo struct {
	proxied bool      // the request goes to a proxy
	direct  bool      // the request goes to no proxy, and the Client's own transport sends it
	remote  net.Addr  // of the server; nil if the connection goes to a proxy
	began   time.Time // when the request got its connection
}

type requestInfoKey struct{}

// errNoTLS marks the error of a TLS handshake that a registry on loopback answered with
// something else than TLS.
var errNoTLS = errors.New("the server does not speak TLS")

// roundTrip sends one HTTP request to the host itself, or to a server that an answer
// named.
func (ep *endpoint) roundTrip(req *http.Request, key transportKey) (*http.Response, *requestInfo, error) {
	info := &requestInfo{}
	if err := ep.checkLiteral(req.URL.Hostname(), key.own || key.fromPrivate); err != nil {
		return nil, info, err
	}
	ctx := context.WithValue(req.Context(), requestInfoKey{}, info)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		info.remote, info.began = serverAddr(got.Conn), time.Now()
	}})
	key.bulk = key.bulk && req.URL.Scheme == "https" // everything else is HTTP/1.1 anyway
	resp, err := ep.transport(key).RoundTrip(req.WithContext(ctx))
	var panicked *panics.Error
	if errors.As(err, &panicked) { // DialContext or AllowAddr has panicked; see caught
		panicked.Raise()
	}
	// An error of a proxy says nothing about the registry behind the proxy. A transport
	// of WrapTransport may use a proxy that the Client does not know, so info.direct
	// must be set.
	var record tls.RecordHeaderError
	if key.own && ep.guessed && info.direct && errors.As(err, &record) && record.Conn != nil {
		err = &described{err.Error(), errors.Join(errNoTLS, err)}
	}
	return resp, info, err
}

// private reports whether the answer came from a private address. If it came through a
// proxy, only the host that is written in the URL counts.
func (info *requestInfo) private(host string) bool {
	if tcp, ok := info.remote.(*net.TCPAddr); ok {
		return classOf(tcp.AddrPort().Addr()) != public
	}
	addr, err := netip.ParseAddr(host)
	return loopbackName(host) || err == nil && classOf(addr) != public
}

// A connPool has the connections of one transportKey.
type connPool struct {
	base              *http.Transport
	http.RoundTripper // base, or what WrapTransport made of it
}

// transport returns the transport that has the connections of a key.
func (ep *endpoint) transport(key transportKey) http.RoundTripper {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	pool, ok := ep.transports[key]
	if !ok {
		if ep.transports == nil {
			ep.transports = map[transportKey]connPool{}
		}
		base := ep.newTransport(key)
		pool = connPool{base, base}
		if wrap := ep.client.cfg.WrapTransport; wrap != nil {
			pool.RoundTripper = wrap(base)
		}
		ep.transports[key] = pool
	}
	return pool
}

func (ep *endpoint) closeIdle() {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	for _, pool := range ep.transports {
		pool.base.CloseIdleConnections()
	}
	ep.ahead.close()
}

const (
	maxHeader   = 1 << 20
	idlePerHost = 64
	idleTimeout = 90 * time.Second
	readBuffer  = 32 << 10
)

// newTransport makes the transport of a key. Bulk requests use HTTP/1.1, each on a
// connection of its own. On the one connection of HTTP/2 all answers share one TCP
// window and one core (BenchmarkParallelTLS: four blobs at a time take 1.5 to 3 times
// as long), and a limit of that connection slows all of them.
func (ep *endpoint) newTransport(key transportKey) *http.Transport {
	c := ep.client
	proxy := c.cfg.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	ping := max(c.cfg.StallTimeout/3, time.Second)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!key.bulk)
	transport := &http.Transport{
		Proxy: func(req *http.Request) (*url.URL, error) {
			u, err := proxy(req)
			if info, ok := req.Context().Value(requestInfoKey{}).(*requestInfo); ok {
				info.proxied, info.direct = u != nil, u == nil
			}
			if key.own && u != nil && ep.guessed && req.URL.Scheme == "http" {
				// It is only a guess that the registry speaks http, and the proxy could
				// read the password.
				return nil, forbidden("a registry on loopback is not asked over http through a proxy, unless it is listed in Config.PlainHTTP")
			}
			return u, err
		},
		DialContext:            ep.dial(key),
		TLSClientConfig:        ep.tlsConfig(key),
		TLSHandshakeTimeout:    c.cfg.StallTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idlePerHost,
		MaxIdleConns:           2 * idlePerHost,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         readBuffer,
		Protocols:              &protocols,
		// A ping detects a connection that has died silently. Without the ping the next
		// try would use the same dead connection.
		HTTP2: &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: ping},
	}
	if key.own && key.bulk {
		transport.DialTLSContext = ep.dialBulk
	}
	return transport
}

// handshake opens a connection for blobs and makes the TLS handshake, for HTTP/1.1.
func (ep *endpoint) handshake(ctx context.Context, key transportKey, network, addr string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, ep.client.cfg.StallTimeout)
	defer cancel()
	raw, err := ep.dial(key)(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conf := ep.tlsConfig(key)
	conf.ServerName, conf.NextProtos = hostOnly(addr), []string{"http/1.1"}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// dialBulk is the DialTLSContext of the transport for blobs of the host. addr is the
// host's, or that of a proxy on https.
func (ep *endpoint) dialBulk(ctx context.Context, network, addr string) (net.Conn, error) {
	if conn := ep.ahead.take(ctx, addr); conn != nil {
		return conn, nil
	}
	conn, err := ep.handshake(ctx, transportKey{own: true, bulk: true}, network, addr)
	if err != nil {
		return nil, err // not a nil *tls.Conn
	}
	return conn, nil
}

// tlsConfig returns the settings for TLS of the connections of a key. Connections with
// equal settings share their sessions, so that a server can resume one.
func (ep *endpoint) tlsConfig(key transportKey) *tls.Config {
	conf := &tls.Config{RootCAs: ep.host.RootCAs, MinVersion: tls.VersionTLS12}
	if conf.RootCAs == nil {
		conf.RootCAs = ep.client.cfg.RootCAs
	}
	if !key.own {
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		return conf
	}
	conf.Certificates, conf.InsecureSkipVerify = withGuardedKeys(ep.host.Certificates), ep.host.SkipVerify
	conf.ClientSessionCache = ep.sessions.get()
	return conf
}

// A onceCache is a cache of TLS sessions that is made when it is needed.
type onceCache struct {
	once  sync.Once
	cache tls.ClientSessionCache
}

func (o *onceCache) get() tls.ClientSessionCache {
	o.once.Do(func() { o.cache = tls.NewLRUClientSessionCache(0) })
	return o.cache
}

// dial returns the function that connects under the rules of a key.
func (ep *endpoint) dial(key transportKey) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		hosts := &ep.client.hosts
		info, ok := ctx.Value(requestInfoKey{}).(*requestInfo)
		proxied := ok && info.proxied
		if key.own {
			ep.direct.Store(!proxied)
		}
		if proxied {
			conn, err := hosts.counted(ep.connect(ctx, network, addr, nil))
			if err != nil {
				return nil, err
			}
			return proxiedConn{conn}, nil
		}
		limit := ep.host.DialTimeout
		if ep.found && limit == 0 {
			limit = foundDialTimeout
		}
		if key.own && limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		conn, err := hosts.counted(ep.connect(ctx, network, addr, func(a netip.Addr) error { return ep.checkAddr(a, key.own || key.fromPrivate) }))
		if err == nil && key.own && key.bulk {
			conn = newCountedConn(conn, &ep.bulkConns)
		}
		return conn, err
	}
}

// A proxiedConn is a connection to a proxy. net/http asks Proxy only for the first request
// over a connection of HTTP/2, so the connection itself shows that it goes to a proxy.
type proxiedConn struct{ net.Conn }

// serverAddr returns the address of the server that conn goes to; nil if conn goes to a
// proxy.
func serverAddr(conn net.Conn) net.Addr {
	raw := conn
	for secure, ok := raw.(*tls.Conn); ok; secure, ok = raw.(*tls.Conn) {
		raw = secure.NetConn()
	}
	if _, ok := raw.(proxiedConn); ok {
		return nil
	}
	return conn.RemoteAddr()
}

// connect dials addr. It checks an address before a byte is sent there. A nil check
// allows all addresses.
func (ep *endpoint) connect(ctx context.Context, network, addr string, check func(netip.Addr) error) (conn net.Conn, err error) {
	if custom := ep.client.cfg.DialContext; custom != nil {
		err = caught(func() error {
			conn, err = connectWith(ctx, custom, network, addr, check)
			return err
		})
		return conn, err
	}
	return dialName(ctx, network, addr, ep.client.cfg.StallTimeout, check)
}

// connectWith is connect with Config.DialContext as dial.
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

// caught turns a panic of a callback into an error. net/http and package net dial in
// goroutines of their own, where a caller cannot recover from the panic. roundTrip,
// which gets the error, panics with it again in the goroutine of the caller.
func caught(fn func() error) (err error) {
	panics.Catch(func() { err = fn() }, func(panicked *panics.Error) {
		if panicked != nil {
			err = panicked
		}
	})
	return err
}

// A guardedKey is a private key of a client certificate. A panic of its signer becomes an
// error, because net/http makes the TLS handshake in a goroutine of its own.
type guardedKey struct {
	signer crypto.Signer
	public crypto.PublicKey
}

// withGuardedKeys returns the certificates with a guardedKey as private key.
func withGuardedKeys(certs []tls.Certificate) []tls.Certificate {
	guarded := slices.Clone(certs)
	for i, cert := range guarded {
		if signer, ok := cert.PrivateKey.(crypto.Signer); ok {
			guarded[i].PrivateKey = guardedKey{signer, signer.Public()}
		}
	}
	return guarded
}

func (k guardedKey) Public() crypto.PublicKey { return k.public }

func (k guardedKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.sign(func() ([]byte, error) { return k.signer.Sign(rand, digest, opts) })
}

// SignMessage makes a guardedKey a crypto.MessageSigner, which the signer may be.
func (k guardedKey) SignMessage(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.sign(func() ([]byte, error) { return crypto.SignMessage(k.signer, rand, message, opts) })
}

func (k guardedKey) sign(fn func() ([]byte, error)) (signature []byte, err error) {
	panics.Catch(func() { signature, err = fn() }, func(panicked *panics.Error) {
		if panicked != nil {
			signature, err = nil, fmt.Errorf("the private key of a client certificate panicked: %.200q", fmt.Sprint(panicked.Value))
		}
	})
	return signature, err
}

// checkAddr returns an error if an address must not be dialled. mayPrivate allows
// private addresses.
func (ep *endpoint) checkAddr(addr netip.Addr, mayPrivate bool) error {
	switch classOf(addr) {
	case linkLocal:
		return forbidden("%s is a link-local, multicast or cloud metadata address, which the client never connects to", addr)
	case private:
		if allow := ep.client.cfg.AllowAddr; !mayPrivate && (allow == nil || !allow(ep.registry, addr.Unmap())) {
			return forbidden("%s is a private address, to which registry %q on a public address must not lead", addr, ep.registry)
		}
	}
	return nil
}

// checkLiteral applies checkAddr to a host that is written as an address, so that the
// rule also holds for requests through a proxy or a transport of WrapTransport.
func (ep *endpoint) checkLiteral(host string, mayPrivate bool) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		return ep.checkAddr(addr, mayPrivate)
	}
	if loopbackName(host) {
		return ep.checkAddr(netip.AddrFrom4([4]byte{127, 0, 0, 1}), mayPrivate)
	}
	return nil
}

// forbidden makes the error for an address that must not be dialled. failTrip finds it
// within the errors of package net.
func forbidden(format string, args ...any) error {
	return &content.Error{Reason: content.ErrForbiddenURL, Err: fmt.Errorf(format, args...)}
}

// counted wraps a new connection, so that h.conns counts it until it is closed.
func (h *hostCache) counted(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	defer h.trim()
	return newCountedConn(conn, &h.conns), nil
}

type countedConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

// newCountedConn wraps a connection, so that open counts it until it is closed.
func newCountedConn(conn net.Conn, open *atomic.Int64) *countedConn {
	open.Add(1)
	return &countedConn{Conn: conn, open: open}
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

const (
	// dialStagger is how long an address of a host name is tried before the next
	// address is tried in parallel with it (RFC 8305, section 5).
	dialStagger = 250 * time.Millisecond
	// maxAddresses is how many addresses of a host name are tried.
	maxAddresses = 16
)

// dialName connects to one of the addresses of a host name. While an address does not
// answer, the next ones are tried in parallel with it, all within the limit. net.Dialer
// gives the first address at least two seconds, so that with a shorter limit it would
// never try the second one.
func dialName(ctx context.Context, network, addr string, limit time.Duration, check func(netip.Addr) error) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addresses := []netip.Addr{}
	if literal, err := netip.ParseAddr(host); err == nil {
		addresses = append(addresses, literal)
	} else if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if len(addresses) == 0 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no address", Name: host}}
	}
	addresses = addresses[:min(len(addresses), maxAddresses)]
	if end, ok := ctx.Deadline(); ok { // the caller's deadline may be earlier, and the look-up has taken time
		limit = time.Until(end)
	}
	d := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		if check == nil {
			return nil
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %.80q cannot be checked: %w", address, err)
		}
		return caught(func() error { return check(ap.Addr()) })
	}}
	return race(ctx, limit, addresses, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
		return d.DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
	})
}

// race dials addresses in their order and returns the first connection. It dials the
// next address when the one before has failed or has taken too long. If all addresses
// fail, the error is that of the first one.
func race(ctx context.Context, limit time.Duration, addresses []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		at   int
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(addresses))
	// Half of the limit is left for the last address.
	pause := max(time.Millisecond, min(dialStagger, limit/time.Duration(2*len(addresses))))
	stagger := time.NewTimer(pause)
	defer stagger.Stop()
	started, ended, first := 0, 0, result{at: len(addresses)}
	for {
		if started < len(addresses) {
			at := started
			started++
			go func() {
				conn, err := dial(ctx, addresses[at])
				results <- result{at, conn, err}
			}()
			stagger.Reset(pause)
		}
		for next := false; !next; {
			select {
			case r := <-results:
				ended++
				if r.err == nil {
					go func() { // the other dials end with ctx; this closes the connections that they made before
						for range started - ended {
							if r := <-results; r.conn != nil {
								_ = r.conn.Close()
							}
						}
					}()
					return r.conn, nil
				}
				if r.at < first.at {
					first = r
				}
				if ended == len(addresses) {
					return nil, first.err
				}
				next = started < len(addresses)
			case <-stagger.C:
				next = started < len(addresses)
			}
		}
	}
}
