package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A link has the limits of connections. The zero link has none.
type link struct {
	rate  int64         // bytes a second to the client, 0 = no limit
	all   int64         // bytes a second of all connections together, 0 = no limit
	delay time.Duration // how much longer a connection's set-up and each request take
	cut   int64         // a connection ends after so many bytes to the client, 0 = never
	reset bool          // a connection ends by a reset
	tell  int64         // the line "sent" is printed whenever so many more bytes went to clients, 0 = never
}

// limits reports whether the link has a limit. Without one, connections are not wrapped, so that
// the system sends files without copying them.
func (l link) limits() bool { return l.rate > 0 || l.all > 0 || l.delay > 0 || l.cut > 0 || l.tell > 0 }

// A linkListener gives each connection its own limits, as registries and CDNs do,
// and counts what all of them carried.
type linkListener struct {
	net.Listener
	link
	sent func(n int64) // counts bytes that a connection has carried

	mu   sync.Mutex
	free time.Time // when all connections together have carried what was written
}

// pace waits until all connections together may carry n more bytes.
func (l *linkListener) pace(n int64) {
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	wait := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(n * int64(time.Second) / l.all))
	l.mu.Unlock()
	time.Sleep(wait)
}

func (l *linkListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &linkConn{Conn: conn, link: l.link, listener: l, total: l.sent}
	c.asked.Store(true)
	c.setUp.Store(l.delay > 0)
	return c, nil
}

// A linkConn is the server's side of a connection.
type linkConn struct {
	net.Conn
	link
	listener *linkListener
	total    func(n int64)
	setUp    atomic.Bool // the delay of the set-up is still to be waited for
	asked    atomic.Bool // the next bytes that are read are the first ones of a request
	sent     int64
	free     time.Time // when the link has carried what was written
}

func (c *linkConn) Read(p []byte) (int, error) {
	if c.setUp.Swap(false) {
		time.Sleep(c.delay)
	}
	n, err := c.Conn.Read(p)
	if n > 0 && c.asked.Swap(false) {
		time.Sleep(c.delay)
	}
	return n, err
}

// errCut is the error of a write to a connection that was cut.
var errCut = errors.New("the connection was cut")

// Write is called by one goroutine at a time, as ReadFrom is.
func (c *linkConn) Write(p []byte) (int, error) {
	n, err := c.carry(int64(len(p)), func(k int64) (int64, error) {
		m, err := c.Conn.Write(p[:k])
		p = p[m:]
		return int64(m), err
	})
	return int(n), err
}

// ReadFrom lets the system send a file, as it does on a plain connection. A connection that is
// only cut is thus as fast as a plain one.
func (c *linkConn) ReadFrom(r io.Reader) (int64, error) {
	tcp, plain := c.Conn.(*net.TCPConn)
	content, limited := r.(*io.LimitedReader)
	if !plain || !limited {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	return c.carry(content.N, func(k int64) (int64, error) {
		m, err := tcp.ReadFrom(&io.LimitedReader{R: content.R, N: k})
		content.N -= m
		return m, err
	})
}

// carry calls send for n bytes in pieces, as the link allows.
func (c *linkConn) carry(n int64, send func(n int64) (int64, error)) (carried int64, err error) {
	c.asked.Store(true)
	for carried < n {
		piece := n - carried
		if c.rate > 0 || c.all > 0 || c.tell > 0 {
			piece = min(piece, pieceSize)
		}
		last := c.cut > 0 && c.sent+piece >= c.cut
		if last {
			piece = c.cut - c.sent
		}
		c.pace(piece)
		if c.all > 0 {
			c.listener.pace(piece)
		}
		k, err := send(piece)
		carried += k
		c.sent += k
		c.total(k)
		switch {
		case err != nil || k < piece:
			return carried, err
		case last:
			return carried, c.end()
		}
	}
	return carried, nil
}

// pieceSize is how many bytes are sent at a time on a link with a limit.
const pieceSize = 64 << 10

// burst limits what a link may carry at once after a pause: as much as it carries in that time.
// pace does not sleep for less than slack, and adds that time to a later sleep.
const (
	burst = 50 * time.Millisecond
	slack = 2 * time.Millisecond
)

// pace waits until the link is free for n more bytes.
func (c *linkConn) pace(n int64) {
	if c.rate == 0 {
		return
	}
	now := time.Now()
	if c.free.IsZero() { // a new connection has not paused
		c.free = now
	}
	if earliest := now.Add(-burst); c.free.Before(earliest) {
		c.free = earliest
	}
	if wait := c.free.Sub(now); wait > slack {
		time.Sleep(wait)
	}
	c.free = c.free.Add(time.Duration(n * int64(time.Second) / c.rate))
}

func (c *linkConn) end() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok && c.reset {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return errors.Join(errCut, c.Conn.Close())
}
