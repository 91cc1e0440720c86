package registry

import (
	"context"
	"errors"
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
	limits  *limits       // of the registry, or of one call to a token server
	// yields reports whether a call fails at once if its host limits requests, because the
	// caller has another body to read on from. Nil means false.
	yields func() bool
}

// progress records that an answer brought something new.
func (p *patience) progress() { p.made, p.waited = 0, 0 }

// next waits before another try after err, and returns nil. If no other try is allowed,
// it returns err, or the error of ctx.
func (p *patience) next(ctx context.Context, err error) error {
	limited := p.limits.note(err)
	if !retryable(err) || p.made >= p.retries || limited && p.yields != nil && p.yields() {
		return err
	}
	p.made++
	wait := ownDelay(p.made)
	var status *statusError
	switch ordered := retryAfterOf(err); {
	case ordered > 0 && !p.allows(ordered):
		return err
	case ordered > 0:
		wait = ordered
	case content.ReasonOf(err) == content.ErrRateLimited && !(errors.As(err, &status) && status.ordersWait):
		// Such a wait counts like a wait that the server orders, because the server limits
		// requests.
		limitWait, turn := p.limits.takeTurn(limitDelay(p.made))
		if p.allows(limitWait) {
			defer p.limits.giveBack(turn)
			wait = limitWait
		} else {
			p.limits.giveBack(turn)
		}
	}
	return sleep(ctx, wait)
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
