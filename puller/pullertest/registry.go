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

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/fakeregistry"
)

// A Config has the settings of a Registry. The zero Config is an open registry over plain
// http on a free port of 127.0.0.1.
type Config struct {
	// Auth is how clients authenticate; the zero value is AuthNone.
	Auth AuthMode
	// Users may pull. With AuthBasic or AuthBearer and no Users every pull is refused.
	Users []User
	// TokenLife is how long a bearer token is valid; zero means 5 minutes.
	// Tokens say so in expires_in, in whole seconds.
	TokenLife time.Duration
	// TLS serves https, with HTTP/2. The registry has an authority of its own, whose
	// certificate CA returns.
	TLS bool
	// Addr is the address to listen on; "" means a free port of 127.0.0.1.
	Addr string
	// NoReferrers leaves out the referrers API, as many registries do.
	NoReferrers bool
	// Network is a network in memory to listen in; nil means a socket.
	Network *Network
}

// A Registry is a well-behaved image registry, from which clients pull what was put into
// it. Start makes one. Its methods may be called concurrently.
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
		cert, ca, err := fakeregistry.ServerCertificate(r.host)
		if err != nil {
			_ = ln.Close()
			return nil, fmt.Errorf("registry: %w", err)
		}
		r.ca = ca
		r.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		serve = func() error { return r.server.ServeTLS(ln, "", "") }
	}
	// The error of Serve always says that the server was closed.
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

// Host is the registry's host:port, as in image names.
func (r *Registry) Host() string { return r.host }

// URL is the registry's origin, "http://127.0.0.1:5000" for example.
func (r *Registry) URL() string {
	if r.conf.TLS {
		return "https://" + r.host
	}
	return "http://" + r.host
}

// CA is the PEM certificate of the authority that signed the certificate of the registry;
// nil without TLS.
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
	if what.Kind == fakeregistry.Referrers && r.conf.NoReferrers {
		what.Kind = fakeregistry.Other
	}
	if what.Kind == fakeregistry.Blob && r.fault.after > 0 {
		r.content.serve(&faultyWriter{ResponseWriter: cw, fault: r.fault, left: r.fault.after, request: req}, req, what)
		return
	}
	r.content.serve(cw, req, what)
}

// A fault is a fault in the blobs of a registry, for TestSource. The zero fault is no
// fault.
type fault struct {
	after int  // how many bytes of each body are sent
	stall bool // afterwards the connection stays open; otherwise it is cut
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
	// Send what was written before the connection is cut. If that fails, the connection
	// has been cut already.
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	if w.fault.stall {
		<-w.request.Context().Done() // the client or the registry has closed the connection
	}
	panic(http.ErrAbortHandler)
}

// serve answers a request that admit has allowed.
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
	case fakeregistry.Referrers:
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		if filter := req.URL.Query().Get("artifactType"); filter != "" {
			w.Header().Set("OCI-Filters-Applied", "artifactType")
		}
		_ = json.NewEncoder(w).Encode(ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex,
			Manifests: c.referrers(what.Repository, digest.Digest(what.Ref), req.URL.Query().Get("artifactType")),
		})
	default:
		fakeregistry.WriteError(w, 404, "UNSUPPORTED", "no such address", "")
	}
}

// Counts says how many requests of each kind a registry has answered. Requests that were
// refused because of a missing or wrong credential are counted in their kind, too.
type Counts struct {
	Root         int // /v2/, the ping
	Token        int // the token endpoint
	ManifestHead int
	ManifestGet  int
	BlobHead     int
	BlobGet      int // with or without Range
	BlobRange    int // those of BlobGet with a Range header
	Referrers    int // lists of what refers to a manifest
	Other        int
	Unauthorized int   // answers with 401, of any kind
	BlobBytes    int64 // bytes of blobs that were sent
}

// Total is the number of requests.
func (c Counts) Total() int {
	return c.Root + c.Token + c.ManifestHead + c.ManifestGet + c.BlobHead + c.BlobGet + c.Referrers + c.Other
}

// Counts returns the counts since the start or the last ResetCounts. A request is counted
// before its answer arrives, and bytes before they arrive.
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
	case what.Kind == fakeregistry.Referrers:
		c.Referrers++
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

// A countingWriter counts an answer before it arrives.
type countingWriter struct {
	http.ResponseWriter
	counts *counter
	blob   bool // the answer is a blob, unless the request fails
	failed bool // the status is not a success
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
