package pullertest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Config says what registry Start starts. The zero Config is an open registry
// over plain http on a free port of 127.0.0.1.
type Config struct {
	// Auth is what the registry asks of clients; the zero value is AuthNone.
	Auth AuthMode
	// Users may pull. With AuthBasic or AuthBearer and no Users nobody may.
	Users []User
	// TokenLife is how long a bearer token is good for; zero means 5 minutes.
	// Tokens say so in expires_in, in whole seconds.
	TokenLife time.Duration
	// TLS serves https, HTTP/2 included. The authority is made for this
	// registry alone; CA gives its certificate.
	TLS bool
	// Addr is where to listen; "" means a free port of 127.0.0.1.
	Addr string
	// Network listens in memory instead of on a socket; nil means a socket.
	Network *Network
}

// A Registry is a well-behaved image registry: clients can pull from it what
// was put into it. Start makes one. Its methods may be called concurrently.
type Registry struct {
	conf    Config
	host    string
	ca      []byte
	content contents
	tokens  tokens
	counts  counter

	server *http.Server
	served sync.WaitGroup
}

// Start starts a registry, which serves until Close.
func Start(conf Config) (*Registry, error) {
	switch conf.Auth {
	case AuthNone, AuthBasic, AuthBearer:
	default:
		return nil, fmt.Errorf("registry: unknown authentication mode %q", string(conf.Auth))
	}
	ln, err := listen(conf.Network, conf.Addr)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r := &Registry{conf: conf, host: ln.Addr().String()}
	r.server = &http.Server{
		Handler:           r,
		ErrorLog:          log.New(io.Discard, "", 0),
		ReadHeaderTimeout: time.Minute,
	}
	serve := func() error { return r.server.Serve(ln) }
	if conf.TLS {
		cert, ca, err := newAuthority(r.host)
		if err != nil {
			_ = ln.Close()
			return nil, fmt.Errorf("registry: %w", err)
		}
		r.ca = ca
		r.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		serve = func() error { return r.server.ServeTLS(ln, "", "") }
	}
	// Serve's error is always that it was closed.
	r.served.Go(func() { _ = serve() })
	return r, nil
}

func listen(network *Network, addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	if network != nil {
		return network.Listen(addr)
	}
	var lc net.ListenConfig
	return lc.Listen(context.Background(), "tcp", addr)
}

// Close ends the registry and all its connections.
func (r *Registry) Close() error {
	err := r.server.Close()
	r.served.Wait()
	return err
}

// Host is the registry's host:port, as it stands in image names.
func (r *Registry) Host() string { return r.host }

// URL is the registry's origin, "http://127.0.0.1:5000" for example.
func (r *Registry) URL() string {
	if r.conf.TLS {
		return "https://" + r.host
	}
	return "http://" + r.host
}

// CA is the PEM certificate of the authority that signed the registry's; nil
// without TLS.
func (r *Registry) CA() []byte { return r.ca }
