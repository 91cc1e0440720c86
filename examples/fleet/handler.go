package main

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/puller/serve"
	"github.com/pullkit/pullkit/reference"
)

// The paths under which a node serves other nodes. After them come a tag or a digest, and
// then the path of the distribution API.
const (
	peerPath = "/fleet/"
	waitPath = peerPath + "wait/" // the request waits for the blob, and the first node pulls it
	havePath = peerPath + "have/" // only a blob that is in the store
)

const (
	// maxSending is how many blobs a node sends at the same time.
	maxSending = 32
	// maxHold is how long a request waits for a blob that is on its way to this node. Then
	// the client has to ask again. It is shorter than the time after which a client gives up
	// a host that sends nothing.
	maxHold = 5 * time.Second
	// piece is how many bytes are sent at a time, and pieceTime how long a client may take
	// for them. Without this limit a client that stops reading would count for maxSending
	// until it ends.
	piece     = 1 << 20
	pieceTime = 30 * time.Second
	// pullTime bounds a pull for other nodes.
	pullTime = time.Hour
)

// A request is what another node asks for.
type request struct {
	image  reference.Reference
	digest digest.Digest // of a blob
	wait   bool
}

// parseRequest parses the path of a request for a blob.
func parseRequest(u *url.URL) (r request, ok bool) {
	rest, wait := strings.CutPrefix(u.Path, waitPath)
	if !wait {
		if rest, ok = strings.CutPrefix(u.Path, havePath); !ok {
			return r, false
		}
	}
	version, rest, ok := strings.Cut(rest, "/v2/")
	if !ok {
		return r, false
	}
	repository, name, ok := strings.Cut(rest, "/blobs/")
	if !ok {
		return r, false
	}
	sign := ":"
	if strings.Contains(version, ":") {
		sign = "@"
	}
	image, err := reference.Parse(u.Query().Get("ns") + "/" + repository + sign + version)
	if err != nil || image.Registry() != u.Query().Get("ns") {
		return r, false
	}
	d := digest.Digest(name)
	return request{image, d, wait}, d.Validate() == nil && d.Algorithm() == digest.SHA256
}

// handler returns the handler for other nodes. It serves blobs of images that are still
// being pulled, which package serve does not do. All other requests go to package serve.
func (n *node) handler() (http.Handler, error) {
	complete, err := n.complete()
	if err != nil {
		return nil, err
	}
	sending := make(chan struct{}, maxSending)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, ok := parseRequest(r.URL)
		if !ok || r.Method != http.MethodGet {
			complete.ServeHTTP(w, withoutPrefix(r))
			return
		}
		found, what := n.await(r.Context(), asked)
		switch what {
		case served:
			select {
			case sending <- struct{}{}:
				defer func() { <-sending }()
				n.send(w, r, found)
			default:
				busy(w, http.StatusTooManyRequests)
			}
		case later:
			busy(w, http.StatusServiceUnavailable)
		default:
			complete.ServeHTTP(w, withoutPrefix(r))
		}
	}), nil
}

// busy lets the client ask again soon.
func busy(w http.ResponseWriter, status int) {
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(status)
}

// withoutPrefix returns a request with the path of the distribution API only.
func withoutPrefix(r *http.Request) *http.Request {
	rest, ok := strings.CutPrefix(r.URL.Path, peerPath)
	if !ok {
		return r
	}
	_, rest, _ = strings.Cut(rest, "/") // wait or have
	_, rest, _ = strings.Cut(rest, "/") // the tag
	plain := r.Clone(r.Context())
	plain.URL.Path, plain.URL.RawPath = "/"+rest, ""
	return plain
}

// An answer says what becomes of a request for a blob.
type answer int

const (
	elsewhere answer = iota // no pull has brought it for all clients: package serve answers
	served                  // the blob is here, and any client may have it
	later                   // it is on its way
)

// await waits until the blob is in the store, at most maxHold. If the blob is not on its way,
// and this node is the first one for its digest, await starts a pull of the image.
func (n *node) await(ctx context.Context, asked request) (blob, answer) {
	held := time.NewTimer(maxHold)
	defer held.Stop()
	pulled := false
	for {
		n.mu.Lock()
		found, here := n.has[blobKey{asked.image.Name(), asked.digest}]
		pulling, changed := n.pulling[asked.image] > 0, n.changed
		n.mu.Unlock()
		switch {
		case found.public:
			return found, served
		case here, !asked.wait:
			return found, elsewhere
		case pulling:
			select {
			case <-changed:
			case <-held.C:
				return found, later
			case <-ctx.Done():
				return found, elsewhere
			}
		case pulled, asked.image.Registry() != n.registry, !n.first(asked.digest):
			return found, elsewhere
		default:
			pulled = true
			end := n.begin(asked.image)
			go func() {
				defer end()
				// Other requests wait for the same pull, so it does not end with this one.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pullTime)
				defer cancel()
				_, _ = n.pull(ctx, asked.image) // the client asks the registry if it fails
			}()
		}
	}
}

// send sends a blob from the store.
func (n *node) send(w http.ResponseWriter, r *http.Request, b blob) {
	f, err := n.store.Open(r.Context(), b.Descriptor)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	content := f.(io.ReadSeeker) // as layout.Layout.Open documents
	if n.wrong {
		content = io.NewSectionReader(zeros{}, 0, b.Size)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	counted := &countedWriter{ResponseWriter: w}
	defer func() { n.toPeers.Add(counted.sent) }()
	http.ServeContent(counted, r, "", time.Time{}, content)
}

// A countedWriter counts what is sent, and cuts off a client that stops reading. Its ReadFrom
// lets the system copy a file into the connection, as sendfile does.
type countedWriter struct {
	http.ResponseWriter
	sent int64
}

func (w *countedWriter) ReadFrom(r io.Reader) (total int64, err error) {
	rest := int64(math.MaxInt64)
	if limited, ok := r.(*io.LimitedReader); ok {
		// package net recognises a file within one LimitedReader, and not within two.
		r, rest = limited.R, limited.N
		defer func() { limited.N -= total }()
	}
	for total < rest && err == nil {
		if err := w.extend(); err != nil {
			return total, err
		}
		var n int64
		n, err = io.Copy(w.ResponseWriter, &io.LimitedReader{R: r, N: min(piece, rest-total)})
		total += n
		w.sent += n
		if n == 0 {
			break
		}
	}
	return total, err
}

func (w *countedWriter) Write(p []byte) (int, error) {
	if err := w.extend(); err != nil {
		return 0, err
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// extend gives the client time for the next piece.
func (w *countedWriter) extend() error {
	return http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(pieceTime))
}

// zeros are zero bytes, which are not the bytes of any layer.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// complete returns the handler for images whose pull has ended.
func (n *node) complete() (http.Handler, error) {
	return serve.New(serve.Config{Store: n.store, Records: n.records, DefaultRegistry: n.registry})
}
