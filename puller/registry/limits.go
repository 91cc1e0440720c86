package registry

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

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
	since  time.Time   // the last 429 or 503
	status int         // of that answer
	turns  []time.Time // when the calls that wait try again, in their order
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
// time. The call gives its turn back when it does not wait any more. If more calls wait
// than have turns within maxTurn, the others have no turn (zero) and try again at any time
// in the second half of maxTurn.
func (l *limits) takeTurn(d time.Duration) (wait time.Duration, turn time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	wait = d
	if n := len(l.turns); n > 0 {
		wait = max(d, l.turns[n-1].Add(slot).Sub(now))
	}
	if wait > max(d, maxTurn) {
		return max(d, maxTurn-rand.N(maxTurn/2)), time.Time{}
	}
	turn = now.Add(wait)
	l.turns = append(l.turns, turn)
	return wait, turn
}

// giveBack gives a turn back.
func (l *limits) giveBack(turn time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turns = slices.DeleteFunc(l.turns, func(t time.Time) bool { return t.Equal(turn) })
}

// limitDelay returns how long the Client waits before the n-th further try after a 429
// without Retry-After: slot, twice as long for each further try, and up to half as much
// more by chance.
func limitDelay(n int) time.Duration {
	d := slot << min(n-1, 6)
	return d + rand.N(d/2)
}

// lateError returns the error for a part of a blob that is not requested, because the host
// has refused a request lately: a further request would only count against the limit. It
// returns nil if the host has refused none.
func (l *limits) lateError(host string) error {
	status := l.lately()
	if status == 0 {
		return nil
	}
	reason := content.ErrUnavailable
	if status == http.StatusTooManyRequests {
		reason = content.ErrRateLimited
	}
	e := failf(reason, host, "the host answered %d less than %v ago, so no part is requested while another body of the blob is open", status, limitedFor)
	e.Status = status
	return e
}

// openBodies counts the open bodies of each key. Calls that are only opening a body do not
// count.
type openBodies struct {
	mu     sync.Mutex
	counts map[targetKey]int
}

// add adds n to the count of a key.
func (o *openBodies) add(key targetKey, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.addLocked(key, n)
}

func (o *openBodies) addLocked(key targetKey, n int) {
	if o.counts == nil {
		o.counts = map[targetKey]int{}
	}
	if o.counts[key] += n; o.counts[key] == 0 {
		delete(o.counts, key)
	}
}

// yield reports whether a body other than the caller's is open. If so, the caller's own one
// does not count any more, if counted says that it does. So of two bodies that would yield
// to each other one stays.
func (o *openBodies) yield(key targetKey, counted bool) bool {
	own := 0
	if counted {
		own = 1
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.counts[key] <= own {
		return false
	}
	o.addLocked(key, -own)
	return true
}
