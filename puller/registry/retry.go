package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/pullkit/pullkit/puller/content"
)

// firstDelay is the Client's own delay before the second try. Each further delay is
// twice as long.
const firstDelay = 500 * time.Millisecond

// A patience bounds the tries and the waiting of one call. Progress resets the bounds.
type patience struct {
	retries int           // the most tries without progress
	maxWait time.Duration // bounds the waits that servers order; negative means never to wait
	made    int           // tries since the last progress
	waited  time.Duration // ordered by servers, since the last progress
	ordered time.Duration // ordered by servers, in all
	limits  *limits       // of the registry; nil for a token server
	part    partLimit     // of the call
}

// progress records that an answer brought something new.
func (p *patience) progress() { p.made, p.waited = 0, 0 }

// next waits before another try after err, and returns nil. If no other try is allowed,
// it returns err, or the error of ctx.
func (p *patience) next(ctx context.Context, err error) error {
	limited := p.limits != nil && p.limits.note(err)
	if !retryable(err) || p.made >= p.retries || limited && p.part.applies() {
		return err
	}
	p.made++
	wait := ownDelay(p.made)
	if ordered := retryAfterOf(err); ordered > 0 {
		if !p.allows(ordered) {
			return err
		}
		wait = ordered
	} else if content.ReasonOf(err) == content.ErrRateLimited {
		wait = p.forSlot(wait)
	}
	return sleep(ctx, wait)
}

// forSlot returns how long to wait after a 429 without Retry-After. Such a wait counts
// like one that the server orders, because the server does limit requests. If the bound
// for ordered waits does not allow it, forSlot returns own.
func (p *patience) forSlot(own time.Duration) time.Duration {
	wait := limitDelay(p.made)
	if p.limits != nil {
		wait = p.limits.takeTurn(wait)
	}
	if !p.allows(wait) {
		return own
	}
	return wait
}

// allows reports whether a wait that a server ordered is within the bound. If so, it
// counts the wait.
func (p *patience) allows(ordered time.Duration) bool {
	if p.maxWait < 0 || ordered > p.maxWait-p.waited {
		return false
	}
	p.waited += ordered
	p.ordered += ordered
	return true
}

// ownDelay returns the delay before the n-th further try: a delay that doubles with n,
// times a random factor between 0.5 and 1.5, so that many clients do not come back at
// the same time.
func ownDelay(n int) time.Duration {
	d := firstDelay << min(n-1, 6)
	return d/2 + rand.N(d)
}

// retryable reports whether the same request may succeed later.
func retryable(err error) bool {
	var token *tokenError
	if errors.As(err, &token) {
		return false // fetchToken made further tries itself
	}
	switch content.ReasonOf(err) {
	case content.ErrRateLimited, content.ErrUnavailable, content.ErrTimeout:
		return true
	case content.ErrNetwork:
		return !noSuchHost(err)
	}
	return false
}

// sleep waits for d. If ctx ends before that, it returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return canceled(ctx, "")
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return canceled(ctx, "")
	case <-timer.C:
		return nil
	}
}

// retryAfterOf returns the wait that the server orders in an error; 0 if it does not
// order one.
func retryAfterOf(err error) time.Duration {
	var e *content.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.RetryAfter
}

// maxRetryAfter is the longest wait that a Retry-After header can order. It is longer
// than any caller waits, and far below the largest Duration.
const maxRetryAfter = 365 * 24 * time.Hour

// retryAfter reads the Retry-After header of an answer (RFC 9110, section 10.2.3):
// seconds or a date. A date is compared with the answer's own Date header, if it has
// one, so that a wrong clock does not matter. A date in the past is 0. ok is false if
// the header is missing or cannot be read.
func retryAfter(h http.Header, now time.Time) (d time.Duration, ok bool) {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return parseRetryAfter(h.Get("Retry-After"), now)
}

func parseRetryAfter(v string, now time.Time) (d time.Duration, ok bool) {
	v = strings.Trim(v, " \t")
	if v == "" {
		return 0, false
	}
	if strings.Trim(v, "0123456789") == "" {
		seconds := int64(0)
		for i := range len(v) {
			seconds = seconds*10 + int64(v[i]-'0')
			if seconds >= int64(maxRetryAfter/time.Second) {
				return maxRetryAfter, true
			}
		}
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), maxRetryAfter), true
}

// A stallTimer cuts a request that brings nothing for the time limit. It runs while the
// Client waits for the network, and is stopped while the caller works.
type stallTimer struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// newStallTimer makes a stallTimer that runs, with a context for the request.
func newStallTimer(ctx context.Context, limit time.Duration) *stallTimer {
	ctx, cancel := context.WithCancelCause(ctx)
	return &stallTimer{ctx: ctx, cancel: cancel, limit: limit, timer: time.AfterFunc(limit, func() { cancel(errStalled) })}
}

func (t *stallTimer) start() { t.timer.Reset(t.limit) }
func (t *stallTimer) stop()  { t.timer.Stop() }

// end cuts the request if it is still under way, and frees the timer.
func (t *stallTimer) end() {
	t.timer.Stop()
	t.cancel(context.Canceled)
}

// errStalled is the cause with which a stallTimer cuts a request.
var errStalled = errors.New("no byte came for too long")

// minRate is the least number of bytes a second that an answer must bring, on average
// over twice the stall time.
const minRate = 1024

// errSlow is the error of an answer that is cut because it brought too little.
var errSlow = fmt.Errorf("less than %d bytes a second", minRate)

// A rate measures how fast bytes come, in windows of time. Only the time in which the
// Client waits for the network counts.
type rate struct {
	spent time.Duration
	bytes int
	slow  int // windows in a row that were too slow
}

// add counts n bytes that came within d. It reports whether this ended a window that
// was too slow.
func (r *rate) add(d time.Duration, n int, window time.Duration) bool {
	r.spent += d
	r.bytes += n
	if r.spent < window {
		return false
	}
	slow := float64(r.bytes) < minRate*r.spent.Seconds()
	r.spent, r.bytes = 0, 0
	if slow {
		r.slow++
	} else {
		r.slow = 0
	}
	return slow
}

// maxCallerTime is how much time between its reads of one blob a caller may take, in
// all. Further time counts like time in which the Client waits for the network. Even a
// slow disk is much faster than minRate.
const maxCallerTime = time.Hour

// A pace is the rate at which one host sends a blob, over all its answers. From the
// first request on, all time counts in which the caller waits in Blob or Read. That
// includes the time until an answer begins, the time for a token, and the time between
// two tries, because there a server can be as slow as within its answers. Two kinds of
// time do not count, each up to a limit in all: the waits that the server orders, up to
// MaxWait, and the caller's own time between two reads, up to maxCallerTime.
type pace struct {
	rate
	at      time.Time     // time has been counted up to here
	ordered time.Duration // the part of patience.ordered that elapse has seen
	granted time.Duration // the part of ordered that was not counted as slowness
	callers time.Duration // between reads
}

// enter records that the caller calls Blob or Read, after time of its own.
func (p *pace) enter(now time.Time) {
	if !p.at.IsZero() {
		before := p.callers
		p.callers += now.Sub(p.at)
		p.spent += max(0, p.callers-max(before, maxCallerTime))
	}
	p.at = now
}

// elapse counts the time up to now. ordered is the sum of all waits that servers
// ordered so far. At most most of that sum is left out of the count.
func (p *pace) elapse(now time.Time, ordered, most time.Duration) {
	d := now.Sub(p.at)
	grant := min(ordered-p.ordered, max(0, most-p.granted), d)
	p.ordered = ordered
	p.granted += grant
	p.spent += d - grant
	p.at = now
}

// nextHost returns the pace of the next host, which is asked from now on.
func (p *pace) nextHost(now time.Time) pace { return pace{at: now, callers: p.callers} }
