package registry

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/puller/content"
)

const (
	// limitedFor is how long a host counts as one that limits requests, from its last
	// 429 or 503 on.
	limitedFor = time.Minute
	// slot is how long the Client waits after the first 429 without Retry-After. It is
	// also the least time between the next tries of two calls that wait for the same
	// limit. A limit of 20 requests a minute allows one more request each three seconds.
	slot = 3 * time.Second
	// maxTurn is the longest time that a call waits for its turn, even if many calls
	// wait.
	maxTurn = 30 * time.Second
)

// limits is what the Client knows of a host's limit on requests.
type limits struct {
	mu     sync.Mutex
	since  time.Time // the last 429 or 503
	status int       // of that answer
	turn   time.Time // when the last of the calls that wait tries again
}

// note records that a host has failed with err. It reports whether err means that the
// host limits requests. An error of a token server says nothing about the host.
func (l *limits) note(err error) bool {
	var token *tokenError
	status := statusOf(err)
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable || errors.As(err, &token) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since, l.status = time.Now(), status
	return true
}

// lately returns the status with which the host refused a request within limitedFor; 0
// if it refused none.
func (l *limits) lately() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status == 0 || time.Since(l.since) >= limitedFor {
		return 0
	}
	return l.status
}

// takeTurn returns how long a call waits before it tries again. That is d, or longer if
// other calls wait for the same limit, so that the calls do not try again at the same
// time.
func (l *limits) takeTurn(d time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	d = max(d, min(l.turn.Add(slot).Sub(now), maxTurn))
	if at := now.Add(d); at.After(l.turn) {
		l.turn = at
	}
	return d
}

// limitDelay returns how long the Client waits before the n-th further try after a 429
// without Retry-After: slot, twice as long for each further try, and up to half as much
// more by chance.
func limitDelay(n int) time.Duration {
	d := slot << min(n-1, 6)
	return d + rand.N(d/2)
}

// A partLimit says whether a call of Blob fails at once, instead of waiting, if its host
// limits requests. That applies to a call for a part of a blob while another body of the
// blob is open, because its caller can read on from the open body. The zero partLimit
// never applies.
type partLimit struct {
	open *openBodies
	dgst digest.Digest
}

func (p partLimit) applies() bool { return p.open != nil && p.open.count(p.dgst) > 1 }

// refused returns the error for a call to which the partLimit applies, if the host has
// refused a request lately, and nil otherwise. A further request would only count against
// the limit.
func (p partLimit) refused(ep *endpoint) error {
	status := ep.limits.lately()
	if status == 0 || !p.applies() {
		return nil
	}
	reason := content.ErrUnavailable
	if status == http.StatusTooManyRequests {
		reason = content.ErrRateLimited
	}
	e := failf(reason, ep.base.Host, "the host answered %d less than %v ago, so no part is requested while another body of the blob is open", status, limitedFor)
	e.Status = status
	return e
}

// openBodies counts the bodies of each blob that are being opened or read.
type openBodies struct {
	mu     sync.Mutex
	counts map[digest.Digest]int
}

func (o *openBodies) count(dgst digest.Digest) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[dgst]
}

// add counts a body. The caller calls the function that it returns when the body ends.
func (o *openBodies) add(dgst digest.Digest) (end func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts == nil {
		o.counts = map[digest.Digest]int{}
	}
	o.counts[dgst]++
	return sync.OnceFunc(func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.counts[dgst]--; o.counts[dgst] == 0 {
			delete(o.counts, dgst)
		}
	})
}
