package pullertest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/fakeregistry"
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
	fault   fault // of every blob; set before the first request

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
		cert, ca, err := fakeregistry.NewAuthority(r.host)
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

// ServeHTTP answers the pull half of the distribution API, and /token.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	what := fakeregistry.ParsePath(req.URL.Path)
	r.counts.arrived(req, what)
	cw := &countingWriter{ResponseWriter: w, counts: &r.counts, blob: what.Kind == fakeregistry.Blob}
	if what.Kind == fakeregistry.Token {
		if r.conf.Auth != AuthBearer {
			fakeregistry.WriteError(cw, 404, "UNSUPPORTED", "this registry gives no tokens", "")
			return
		}
		r.serveToken(cw, req)
		return
	}
	if no := r.admit(req, what.Repository); no.status != 0 {
		fakeregistry.WriteError(cw, no.status, no.code, no.message, no.challenge)
		return
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		fakeregistry.WriteError(cw, 405, "UNSUPPORTED", "this registry is for pulling only", "")
		return
	}
	if what.Kind == fakeregistry.Blob && r.fault.after > 0 {
		r.content.serve(&faultyWriter{ResponseWriter: cw, fault: r.fault, left: r.fault.after, request: req}, req, what)
		return
	}
	r.content.serve(cw, req, what)
}

// A fault is what goes wrong with a registry's blobs, for TestSource. The zero fault
// is none.
type fault struct {
	after int  // how many bytes of each body are sent
	stall bool // then the connection stays open, and is cut otherwise
}

// A faultyWriter sends a body that has a fault.
type faultyWriter struct {
	http.ResponseWriter
	fault   fault
	left    int
	request *http.Request
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(w.left, len(p))])
	w.left -= n
	if w.left > 0 || err != nil {
		return n, err
	}
	// What was written is sent before the connection is cut. A failure to send it is
	// of no interest: then the connection has been cut already.
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	if w.fault.stall {
		<-w.request.Context().Done() // the client or the registry has gone
	}
	panic(http.ErrAbortHandler)
}

// serve answers a request that is allowed.
func (c *contents) serve(w http.ResponseWriter, req *http.Request, what fakeregistry.Path) {
	switch what.Kind {
	case fakeregistry.Root:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		_, _ = w.Write([]byte("{}"))
	case fakeregistry.Tags:
		tags, ok := c.tags(what.Repository)
		if !ok {
			fakeregistry.WriteError(w, 404, "NAME_UNKNOWN", "repository name not known to registry", "")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"name": what.Repository, "tags": tags})
	case fakeregistry.Manifest:
		b, ok := c.manifest(what.Repository, what.Ref)
		if !ok {
			fakeregistry.WriteError(w, 404, "MANIFEST_UNKNOWN", "manifest unknown", "")
			return
		}
		b.Serve(w, req)
	case fakeregistry.Blob:
		b, ok := c.blob(what.Repository, what.Ref)
		if !ok {
			fakeregistry.WriteError(w, 404, "BLOB_UNKNOWN", "blob unknown to registry", "")
			return
		}
		b.Serve(w, req)
	default:
		fakeregistry.WriteError(w, 404, "UNSUPPORTED", "no such address", "")
	}
}

// Counts says how many requests of each kind a registry has answered. Requests
// that were turned away for want of credentials are counted by kind, too.
type Counts struct {
	Root         int // /v2/, the ping
	Token        int // the token endpoint
	ManifestHead int
	ManifestGet  int
	BlobHead     int
	BlobGet      int // with or without Range
	BlobRange    int // those of BlobGet with a Range header
	Other        int
	Unauthorized int   // answers with 401, of any kind
	BlobBytes    int64 // bytes of blobs that were sent
}

// Total is the number of requests.
func (c Counts) Total() int {
	return c.Root + c.Token + c.ManifestHead + c.ManifestGet + c.BlobHead + c.BlobGet + c.Other
}

// Counts returns what was asked since the start or the last ResetCounts. What a
// client has an answer to, or bytes of, is counted already.
func (r *Registry) Counts() Counts {
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	return r.counts.Counts
}

// ResetCounts sets all counts to zero.
func (r *Registry) ResetCounts() {
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	r.counts.Counts = Counts{}
}

type counter struct {
	mu sync.Mutex
	Counts
}

// arrived counts a request before it is answered.
func (c *counter) arrived(req *http.Request, what fakeregistry.Path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	head := req.Method == http.MethodHead
	switch {
	case what.Kind == fakeregistry.Root:
		c.Root++
	case what.Kind == fakeregistry.Token:
		c.Token++
	case what.Kind == fakeregistry.Manifest && head:
		c.ManifestHead++
	case what.Kind == fakeregistry.Manifest:
		c.ManifestGet++
	case what.Kind == fakeregistry.Blob && head:
		c.BlobHead++
	case what.Kind == fakeregistry.Blob:
		c.BlobGet++
		if req.Header.Get("Range") != "" {
			c.BlobRange++
		}
	default:
		c.Other++
	}
}

func (c *counter) unauthorized() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Unauthorized++
}

func (c *counter) blobBytes(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.BlobBytes += int64(n)
}

// A countingWriter counts what is answered before it can arrive.
type countingWriter struct {
	http.ResponseWriter
	counts *counter
	blob   bool // the answer is a blob, if it is one at all
	failed bool // the status is not one of success
}

func (w *countingWriter) WriteHeader(status int) {
	w.failed = status/100 != 2
	if status == http.StatusUnauthorized {
		w.counts.unauthorized()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if !w.blob || w.failed {
		return w.ResponseWriter.Write(p)
	}
	w.counts.blobBytes(len(p))
	n, err := w.ResponseWriter.Write(p)
	w.counts.blobBytes(n - len(p))
	return n, err
}

// Unwrap lets http.ResponseController flush the answer.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
