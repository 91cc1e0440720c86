package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"os"
	"sync"
	"time"
)

const (
	// farAway is the time to the first answer from which on a host counts as far away.
	// Connections are opened ahead only to such hosts, because at a nearer host they save
	// almost no time.
	farAway = 20 * time.Millisecond
	// maxAhead is how many connections to a host are opened ahead: one for each layer
	// that a pull fetches at the same time by default.
	maxAhead = 10
	// aheadLife is how long a connection that was opened ahead may be unused before it is
	// closed.
	aheadLife = 10 * time.Second
	// aheadPause is how long no connection is opened ahead to a host after none of the
	// last ones was used.
	aheadPause = 10 * time.Minute
)

// aheadConns are connections for blobs to one host. The Client opens them before a blob
// is asked for, while a manifest or the token for it is on its way. If no blob follows,
// idle connections are the only cost. No request is sent over a connection before it is
// used for a blob, so an unused connection has carried no secret. Its address was checked
// like that of any other connection.
type aheadConns struct {
	mu        sync.Mutex
	addr      string // of the host
	unused    []*aheadConn
	expiry    *time.Timer // closes the unused ones; nil before the first are opened
	until     time.Time   // when expiry closes them
	used      bool        // whether one of the last connections opened ahead was used
	notBefore time.Time   // when connections may be opened ahead again
}

// An aheadConn is a connection that was opened ahead, or is being opened.
type aheadConn struct {
	cancel context.CancelFunc
	opened chan struct{} // closed when conn or err is set
	conn   *tls.Conn
	err    error
	ended  chan error // gets the error that ends the reading of the unused connection
}

// open opens connections for blobs, if the request for a manifest at u that info is
// about shows that they save time. The host must have answered over https without a
// proxy, and must be far away. No connection is opened to a host that is not asked for
// blobs, redirects blobs or limits requests, or to which connections for blobs are open
// already, or while the Client has many connections open.
func (p *aheadConns) open(ctx context.Context, ep *endpoint, u *url.URL, info *requestInfo) {
	if !ep.can(CanPull) || !ep.direct.Load() || u.Scheme != "https" || time.Since(info.began) < farAway || ep.redirects.Load() ||
		ep.bulkConns.Load() > 0 || ep.limits.lately() != 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unused) > 0 || time.Now().Before(p.notBefore) {
		return
	}
	// The connections are counted before they are open, because many hosts may be asked
	// at the same time.
	if conns := &ep.client.hosts.conns; conns.Add(maxAhead) > maxConns/2+maxAhead {
		conns.Add(-maxAhead)
		return
	}
	p.used, p.addr, p.until = false, net.JoinHostPort(u.Hostname(), originOf(u).port), time.Now().Add(aheadLife)
	for range maxAhead {
		p.unused = append(p.unused, newAheadConn(context.WithoutCancel(ctx), ep, p.addr))
	}
	p.expiry = time.AfterFunc(aheadLife, p.expire)
}

// newAheadConn starts to open a connection for blobs to a host. The caller has counted
// the connection.
func newAheadConn(ctx context.Context, ep *endpoint, addr string) *aheadConn {
	ctx, cancel := context.WithCancel(ctx) // handshake has a limit of its own
	c := &aheadConn{cancel: cancel, opened: make(chan struct{}), ended: make(chan error, 1)}
	go func() {
		defer close(c.opened)
		conn, err := ep.handshake(ctx, transportKey{own: true, bulk: true}, "tcp", addr)
		ep.client.hosts.conns.Add(-1) // an open connection counts itself
		if c.conn, c.err = conn, err; err != nil {
			return
		}
		go func() { // notices when the server closes the connection
			var one [1]byte
			_, err := conn.Read(one[:])
			if err == nil {
				err = errors.New("the server speaks first")
			}
			c.ended <- err
		}()
	}()
	return c
}

// take returns a connection to addr that was opened ahead; nil if there is no such
// connection. A request through a proxy gets none, because a proxy on https is dialled in
// the same way as the host, and the proxy's password must not reach the host.
func (p *aheadConns) take(ctx context.Context, addr string) *tls.Conn {
	if info, ok := ctx.Value(requestInfoKey{}).(*requestInfo); !ok || !info.direct {
		return nil
	}
	for {
		c := p.next(addr)
		if c == nil {
			return nil
		}
		select {
		case <-c.opened:
		case <-ctx.Done():
			c.close()
			return nil
		}
		conn, err := c.use(ctx)
		if err == nil {
			return conn
		}
		if errors.Is(err, errNoDeadlines) { // the other connections cannot be used either
			p.pause()
			p.close()
			return nil
		}
	}
}

// next removes one of the unused connections to addr and returns it: one that is open, if
// possible, or else one that is being opened. It returns nil if there is no unused
// connection.
func (p *aheadConns) next(addr string) *aheadConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unused) == 0 || p.addr != addr {
		return nil
	}
	p.used = true
	at := 0
	for i, c := range p.unused {
		if c.isOpen() {
			at = i
			break
		}
	}
	c := p.unused[at]
	p.unused = append(p.unused[:at], p.unused[at+1:]...)
	if len(p.unused) == 0 {
		p.expiry.Stop()
	}
	return c
}

// pause lets open open no connection for aheadPause.
func (p *aheadConns) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notBefore = time.Now().Add(aheadPause)
}

// close closes the connections that were not used.
func (p *aheadConns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeUnused()
}

// expire closes the unused connections if their time has passed. When the timer fires,
// these connections may already have been used and others opened, whose time has not
// passed.
func (p *aheadConns) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !time.Now().Before(p.until) {
		p.closeUnused()
	}
}

// closeUnused is close for a caller that holds the lock.
func (p *aheadConns) closeUnused() {
	if len(p.unused) == 0 {
		return
	}
	p.expiry.Stop()
	if !p.used {
		p.notBefore = time.Now().Add(aheadPause)
	}
	for _, c := range p.unused {
		c.close()
	}
	p.unused = nil
}

func (c *aheadConn) isOpen() bool {
	select {
	case <-c.opened:
		return true
	default:
		return false
	}
}

// errNoDeadlines is the error for a connection whose deadlines do not work, such as that
// of a tunnel. The goroutine that reads from it cannot be stopped.
var errNoDeadlines = errors.New("the connection has no deadlines")

// use returns the connection, which is open, for a request. The error is that of a
// connection that has failed or that the server has closed, or errNoDeadlines. After an
// error the connection is closed.
func (c *aheadConn) use(ctx context.Context) (*tls.Conn, error) {
	c.cancel()
	if c.err != nil {
		return nil, c.err
	}
	if err := c.stopReading(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c.conn, nil
}

// maxStop is how long a deadline may take to end the Read of newAheadConn's goroutine.
const maxStop = time.Second

// stopReading ends the Read of newAheadConn's goroutine by a deadline.
func (c *aheadConn) stopReading(ctx context.Context) error {
	if c.conn.SetReadDeadline(time.Unix(1, 0)) != nil {
		return errNoDeadlines
	}
	late := time.NewTimer(maxStop)
	defer late.Stop()
	select {
	case err := <-c.ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		return c.conn.SetReadDeadline(time.Time{})
	case <-late.C:
		return errNoDeadlines
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close closes the connection, even if it is still being opened.
func (c *aheadConn) close() {
	c.cancel()
	go func() {
		<-c.opened
		if c.conn != nil {
			_ = c.conn.NetConn().Close() // without TLS's closing message, because sending it could block
		}
	}()
}
