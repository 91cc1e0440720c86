package pullertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A Network is a network in memory: a listener in it can only be dialled through it. For
// testing/synctest a goroutine that waits in it is idle, so stalls and delays take no real
// time; the Network and all that uses it must then be made in the bubble. The zero
// Network is ready for use; it must not be copied. Its methods may be called concurrently.
//
// A connection holds up to 64 KiB in flight in each direction. Bytes that are written
// before a connection is closed or reset always arrive.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	nextPort  int
}

// Listen listens on an address. Port 0 means a free port. The host may be a name:
// "registry.example:443" is dialled under that name.
func (n *Network) Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == "0" {
		if n.nextPort == 0 {
			n.nextPort = 40000
		}
		n.nextPort++
		port = strconv.Itoa(n.nextPort)
	}
	addr = net.JoinHostPort(host, port)
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", errAddrInUse)}
	}
	if n.listeners == nil {
		n.listeners = map[string]*memListener{}
	}
	l := &memListener{network: n, addr: memAddr(addr), incoming: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// DialContext connects to the listener on addr; it fits http.Transport.DialContext. If
// there is no listener, the error is the one that this system has for a refused
// connection: ECONNREFUSED on Unix.
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, fmt.Errorf("dial %q: %w", network, errors.ErrUnsupported)
	}
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	refused := &net.OpError{Op: "dial", Net: network, Addr: memAddr(addr).tcp(), Err: os.NewSyscallError("connect", errConnRefused)}
	if l == nil {
		return nil, refused
	}
	client, server := memPipe(memAddr("127.0.0.1:1"), l.addr)
	select {
	case l.incoming <- server:
		return client, nil
	case <-l.closed:
		return nil, refused
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: network, Addr: l.Addr(), Err: ctx.Err()}
	}
}

type memListener struct {
	network  *Network
	addr     memAddr
	incoming chan net.Conn
	once     sync.Once
	closed   chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.listeners, string(l.addr))
		l.network.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return l.addr.tcp() }

// A memAddr is host:port of the network in memory.
type memAddr string

func (memAddr) Network() string  { return "tcp" }
func (a memAddr) String() string { return string(a) }

// tcp returns a *net.TCPAddr where the host is an IP address, as a socket does.
func (a memAddr) tcp() net.Addr {
	if ap, err := netip.ParseAddrPort(string(a)); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return a
}

// pipeSize is how many bytes can be in flight in each direction. It is about the initial
// size of a socket's receive buffer.
const pipeSize = 64 << 10

// memPipe makes the two ends of a connection.
func memPipe(client, server memAddr) (c, s *memConn) {
	up, down := newOneWay(), newOneWay()
	c = &memConn{in: down, out: up, local: client, remote: server}
	s = &memConn{in: up, out: down, local: server, remote: client}
	return c, s
}

// A memConn is one end of a connection in memory.
type memConn struct {
	in, out       *oneWay
	local, remote memAddr
	reset         atomic.Bool // Close ends the connection with a reset
}

func (c *memConn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *memConn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *memConn) LocalAddr() net.Addr                { return c.local.tcp() }
func (c *memConn) RemoteAddr() net.Addr               { return c.remote.tcp() }
func (c *memConn) SetReadDeadline(t time.Time) error  { return c.in.setDeadline(&c.in.readBy, t) }
func (c *memConn) SetWriteDeadline(t time.Time) error { return c.out.setDeadline(&c.out.writeBy, t) }

func (c *memConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Close ends the connection. The other end reads what was written, then EOF, or the error
// of a reset after SetLinger(0).
func (c *memConn) Close() error {
	if c.reset.Load() {
		return c.end(opError("read", os.NewSyscallError("read", errConnReset)))
	}
	return c.end(io.EOF)
}

// SetLinger(0) makes Close reset the connection, as with a *net.TCPConn. Unlike with a
// *net.TCPConn, the other end still reads what was written before.
func (c *memConn) SetLinger(sec int) error {
	c.reset.Store(sec == 0)
	return nil
}

func (c *memConn) end(peerReads error) error {
	c.out.endWrite(peerReads)
	c.in.endRead()
	return nil
}

// A oneWay carries the bytes of one direction of a connection.
type oneWay struct {
	mu       sync.Mutex
	changed  *sync.Cond
	buf      []byte // unread bytes; cap is pipeSize
	readErr  error  // what Read returns after buf; nil until the writer closes
	readGone bool
	readBy   deadline
	writeBy  deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newOneWay() *oneWay {
	w := &oneWay{}
	w.changed = sync.NewCond(&w.mu)
	return w
}

func opError(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }

func (w *oneWay) read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.readGone:
			return 0, opError("read", net.ErrClosed)
		case w.readBy.passed():
			return 0, opError("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case len(w.buf) > 0:
			n := copy(p, w.buf)
			w.buf = w.buf[:copy(w.buf, w.buf[n:])]
			w.changed.Broadcast()
			return n, nil
		case w.readErr != nil:
			return 0, w.readErr
		}
		w.changed.Wait()
	}
}

func (w *oneWay) write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := 0; ; {
		switch {
		case w.readErr != nil:
			return n, opError("write", net.ErrClosed)
		case w.readGone:
			return n, opError("write", os.NewSyscallError("write", errBrokenPipe))
		case w.writeBy.passed():
			return n, opError("write", os.ErrDeadlineExceeded)
		case n == len(p):
			return n, nil
		}
		if room := pipeSize - len(w.buf); room > 0 {
			k := min(room, len(p)-n)
			w.buf = append(w.buf, p[n:n+k]...)
			n += k
			w.changed.Broadcast()
			continue
		}
		w.changed.Wait()
	}
}

func (w *oneWay) endWrite(peerReads error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.readErr == nil {
		w.readErr = peerReads
	}
	w.writeBy.stop()
	w.changed.Broadcast()
}

func (w *oneWay) endRead() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readGone = true
	w.buf = nil
	w.readBy.stop()
	w.changed.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (w *oneWay) setDeadline(d *deadline, at time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	d.stop()
	d.at = at
	// A deadline that has passed needs no timer: the waiting goroutines are woken now.
	if wait := time.Until(at); !at.IsZero() && wait > 0 && !w.readGone {
		d.timer = time.AfterFunc(wait, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changed.Broadcast()
		})
	}
	w.changed.Broadcast()
	return nil
}
