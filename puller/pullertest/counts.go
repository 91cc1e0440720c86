package pullertest

import (
	"net/http"
	"sync"
)

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

// Counts returns what was asked since the start or the last ResetCounts. A
// request counts when its answer is at an end.
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

func (c *counter) add(req *http.Request, what apiPath, w *countingWriter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	head := req.Method == http.MethodHead
	switch {
	case what.kind == kindRoot:
		c.Root++
	case what.kind == kindToken:
		c.Token++
	case what.kind == kindManifest && head:
		c.ManifestHead++
	case what.kind == kindManifest:
		c.ManifestGet++
	case what.kind == kindBlob && head:
		c.BlobHead++
	case what.kind == kindBlob:
		c.BlobGet++
		if req.Header.Get("Range") != "" {
			c.BlobRange++
		}
		if w.status/100 == 2 {
			c.BlobBytes += w.sent
		}
	default:
		c.Other++
	}
	if w.status == http.StatusUnauthorized {
		c.Unauthorized++
	}
}

// A countingWriter remembers the status and the size of an answer.
type countingWriter struct {
	http.ResponseWriter
	status int
	sent   int64
}

func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
