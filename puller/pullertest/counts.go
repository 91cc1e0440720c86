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
func (c *counter) arrived(req *http.Request, what apiPath) {
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
