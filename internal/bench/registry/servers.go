package main

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

// servers are the registry, its token server and its storage.
type servers struct {
	setup
	dir  string // of the certificate
	sent func(n int64)

	closers []func() error // each ends a server or a relay, and waits for that
}

// serve starts a server on a free port of loopback, and returns the origin at which clients
// reach it. name is a host name or an address of loopback.
func (s *servers) serve(name string, server *http.Server) (origin string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	front := listener
	if s.wan != nil {
		if front, err = s.relay(listener.Addr().String()); err != nil {
			return "", errors.Join(err, listener.Close())
		}
	}
	if s.limits() {
		listener = &linkListener{Listener: listener, link: s.link, sent: s.sent}
	}
	server.ReadHeaderTimeout = time.Minute
	server.ErrorLog = log.New(io.Discard, "", 0) // some clients try http first
	scheme, run := "http://", func() error { return server.Serve(listener) }
	if s.tls {
		server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		cert, key := filepath.Join(s.dir, certFile), filepath.Join(s.dir, keyFile)
		scheme, run = "https://", func() error { return server.ServeTLS(listener, cert, key) }
	}
	ended := make(chan error, 1)
	go func() { ended <- run() }()
	s.closers = append(s.closers, func() error {
		err := server.Close()
		if end := <-ended; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	})
	_, port, err := net.SplitHostPort(front.Addr().String())
	return scheme + net.JoinHostPort(name, port), err
}

// relay puts the wide-area link in front of a server, and returns the listener to which clients
// connect.
func (s *servers) relay(to string) (net.Listener, error) {
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.wan.Serve(front, func() (net.Conn, error) { return net.Dial("tcp", to) }) }()
	s.closers = append(s.closers, func() error {
		err := front.Close()
		if end := <-ended; !errors.Is(end, net.ErrClosed) {
			err = errors.Join(err, end)
		}
		return err
	})
	return front, nil
}

// close ends all servers. It may be called again.
func (s *servers) close() (err error) {
	for _, c := range s.closers {
		err = errors.Join(err, c())
	}
	s.closers = nil
	return err
}
