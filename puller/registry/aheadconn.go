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
	unused    []*aheadConn
	expiry    *time.Timer // closes the unused ones; nil before the first are opened
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
// proxy, and must be far away. No connection is opened to a host that redirects blobs or
// limits requests, or to which connections for blobs are open already, or while the
// Client has many connections open.
func (p *aheadConns) open(ctx context.Context, ep *endpoint, u *url.URL, info *requestInfo) {
	if !ep.direct.Load() || u.Scheme != "https" || time.Since(info.began) < farAway || ep.redirects.Load() || ep.bulkConns.Load() > 0 ||
		ep.limits.lately() != 0 || ep.client.hosts.conns.Load() > maxConns/2 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unused) > 0 || time.Now().Before(p.notBefore) {
		return
	}
	p.used = false
	addr := net.JoinHostPort(u.Hostname(), originOf(u).port)
	for range maxAhead {
		p.unused = append(p.unused, newAheadConn(context.WithoutCancel(ctx), ep, addr))
	}
	p.expiry = time.AfterFunc(aheadLife, p.close)
}

// newAheadConn starts to open a connection for blobs to a host.
func newAheadConn(ctx context.Context, ep *endpoint, addr string) *aheadConn {
	ctx, cancel := context.WithTimeout(ctx, ep.client.cfg.StallTimeout)
	c := &aheadConn{cancel: cancel, opened: make(chan struct{}), ended: make(chan error, 1)}
	go func() {
		defer close(c.opened)
		conn, err := ep.handshake(ctx, transportKey{own: true, bulk: true}, "tcp", addr)
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

// take returns a connection that was opened ahead; nil if there is no such connection.
func (p *aheadConns) take(ctx context.Context) *tls.Conn {
	for {
		c := p.next()
		if c == nil {
			return nil
		}
		select {
		case <-c.opened:
		case <-ctx.Done():
			c.close()
			return nil
		}
		if conn := c.use(); conn != nil {
			return conn
		}
	}
}

// next removes one of the unused connections and returns it: one that is open, if
// possible, or else one that is being opened. It returns nil if there is no unused
// connection.
func (p *aheadConns) next() *aheadConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unused) == 0 {
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

// close closes the connections that were not used.
func (p *aheadConns) close() {
	p.mu.Lock()
	unused := p.unused
	p.unused = nil
	if len(unused) > 0 {
		p.expiry.Stop()
		if !p.used {
			p.notBefore = time.Now().Add(aheadPause)
		}
	}
	p.mu.Unlock()
	for _, c := range unused {
		c.close()
	}
}

func (c *aheadConn) isOpen() bool {
	select {
	case <-c.opened:
		return true
	default:
		return false
	}
}

// use returns the connection, which is open, for a request; nil if it has failed or the
// server has closed it.
func (c *aheadConn) use() *tls.Conn {
	c.cancel()
	if c.err != nil {
		return nil
	}
	// The deadline ends the Read of newAheadConn's goroutine, unless that Read has ended
	// already.
	err := c.conn.SetReadDeadline(time.Unix(1, 0))
	if ended := <-c.ended; err == nil && errors.Is(ended, os.ErrDeadlineExceeded) {
		if err = c.conn.SetReadDeadline(time.Time{}); err == nil {
			return c.conn
		}
	}
	_ = c.conn.Close()
	return nil
}

// close closes the connection, also if it is still being opened.
func (c *aheadConn) close() {
	c.cancel()
	go func() {
		<-c.opened
		if c.conn != nil {
			_ = c.conn.NetConn().Close() // without TLS's closing message, because sending it could block
		}
	}()
}
