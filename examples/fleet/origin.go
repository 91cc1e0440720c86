package main

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pullkit/pullkit/puller/pullertest"
)

// An origin is a registry behind a link that all its connections share.
type origin struct {
	registry *pullertest.Registry
	server   *http.Server
	host     string
}

// startOrigin starts a registry that sends at most rate bytes a second.
func startOrigin(rate int64) (*origin, error) {
	reg, err := pullertest.Start(pullertest.Config{})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = reg.Close()
		return nil, err
	}
	o := &origin{reg, &http.Server{Handler: reg, ReadHeaderTimeout: 10 * time.Second}, listener.Addr().String()}
	go func() { _ = o.server.Serve(&limited{Listener: listener, rate: rate}) }()
	return o, nil
}

func (o *origin) close() {
	_ = o.server.Close()
	_ = o.registry.Close()
}

// limited is a listener whose connections share a rate.
type limited struct {
	net.Listener
	rate int64 // bytes a second

	mu   sync.Mutex
	free time.Time // when the link has carried all that was written until now
}

func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &limitedConn{conn, l}, nil
}

// pace waits until the link is free, and takes it for n bytes.
func (l *limited) pace(n int) {
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	wait := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / l.rate))
	l.mu.Unlock()
	time.Sleep(wait)
}

type limitedConn struct {
	net.Conn
	link *limited
}

func (c *limitedConn) Write(p []byte) (sent int, err error) {
	const piece = 64 << 10
	for len(p) > 0 && err == nil {
		part := p[:min(len(p), piece)]
		c.link.pace(len(part))
		var n int
		n, err = c.Conn.Write(part)
		sent += n
		p = p[n:]
	}
	return sent, err
}
