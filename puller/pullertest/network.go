package pullertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
)

// A Network is a network in memory: what listens in it can be dialled through
// it, and through nothing else. Waiting in it is idle for testing/synctest, so
// that stalls and delays cost no real time; all of it must then be made in the
// bubble. The zero Network is ready for use; it must not be copied. Its methods
// may be called concurrently.
//
// A connection keeps up to 64 KiB in flight each way. Bytes written before a
// connection is closed or reset always arrive.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	nextPort  int
}

// Listen listens on an address. Port 0 is a free port. The host need not be an
// address: "registry.example:443" is reached under that name.
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

// DialContext connects to what listens on addr; its form is that of
// http.Transport.DialContext. The error is this system's for a refused connection if
// nothing listens: ECONNREFUSED on Unix.
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

// tcp gives a *net.TCPAddr where the host is an address, as a socket would.
func (a memAddr) tcp() net.Addr {
	if ap, err := netip.ParseAddrPort(string(a)); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return a
}
