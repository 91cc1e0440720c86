package registry

import (
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// rejectedFor is how long it is remembered that a host gave wrong bytes.
const rejectedFor = 10 * time.Minute

// maxRejections is how many such memories are kept.
const maxRejections = 1024

// rejections remembers which host gave wrong bytes for which digest.
type rejections struct {
	mu    sync.Mutex
	until map[rejection]time.Time
}

type rejection struct {
	endpoint *endpoint
	digest   digest.Digest
}

// add reports whether it is news.
func (r *rejections) add(ep *endpoint, dgst digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.until == nil {
		r.until = map[rejection]time.Time{}
	}
	key := rejection{ep, dgst}
	news := !now.Before(r.until[key])
	if len(r.until) >= maxRejections {
		for k, until := range r.until {
			if !now.Before(until) || len(r.until) >= maxRejections {
				delete(r.until, k)
			}
		}
	}
	r.until[key] = now.Add(rejectedFor)
	return news
}

func (r *rejections) has(ep *endpoint, dgst digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.until[rejection{ep, dgst}])
}
