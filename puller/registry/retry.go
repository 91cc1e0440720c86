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

// firstDelay is the Client's own delay before the second try; each further delay is
// twice as long.
const firstDelay = 500 * time.Millisecond

// A patience is how many more tries, and how much more waiting, one call has for a host
// since the last progress.
type patience struct {
	retries int           // at most so many without progress
	maxWait time.Duration // for what servers order to wait; negative: never
	made    int           // tries since the last progress
	waited  time.Duration // for servers, since the last progress
	ordered time.Duration // for servers, in all
}

// progress records that an answer brought something new.
func (p *patience) progress() { p.made, p.waited = 0, 0 }

// next waits before another try after err. It returns err, or the error of ctx, if there
// shall be no other try.
func (p *patience) next(ctx context.Context, err error) error {
	if !retryable(err) || p.made >= p.retries {
		return err
	}
	p.made++
	wait := ownDelay(p.made)
	if ordered := retryAfterOf(err); ordered > 0 {
		if !p.allows(ordered) {
			return err
		}
		wait = ordered
	}
	return sleep(ctx, wait)
}

// allows counts a wait that a server ordered, if that is not more than the caller has
// patience for.
func (p *patience) allows(ordered time.Duration) bool {
	if p.maxWait < 0 || ordered > p.maxWait-p.waited {
		return false
	}
	p.waited += ordered
	p.ordered += ordered
	return true
}

// ownDelay is how long to wait before the n-th try again: half to one and a half of a
// doubling delay, so that many clients do not come back together.
func ownDelay(n int) time.Duration {
	d := firstDelay << min(n-1, 6)
	return d/2 + rand.N(d)
}

// retryable reports whether the same request may get a better answer later.
func retryable(err error) bool {
	var token *tokenError
	if errors.As(err, &token) {
		return false // it had tries of its own
	}
	switch content.ReasonOf(err) {
	case content.ErrRateLimited, content.ErrUnavailable, content.ErrTimeout:
		return true
	case content.ErrNetwork:
		return !noSuchHost(err)
	}
	return false
}

// sleep waits, or returns the error of ctx.
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

// retryAfterOf returns how long the server of an error orders to wait; 0 if it does not.
func retryAfterOf(err error) time.Duration {
	var e *content.Error
	if !errors.As(err, &e) {
		return 0
	}
	return e.RetryAfter
}

// maxRetryAfter bounds what a Retry-After header can mean. It is longer than any caller
// waits and far from the end of a Duration.
const maxRetryAfter = 365 * 24 * time.Hour

// retryAfter reads the Retry-After header of an answer (RFC 9110, section 10.2.3):
// seconds or a date. A date is compared with the answer's own Date, if it has one, so
// that a wrong clock does not matter. A date in the past is 0. ok is false if there is
// no header or it is neither.
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

// A stallTimer cuts a request that brings nothing for a while. It runs while the Client
// waits for the network and is stopped while the caller works.
type stallTimer struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

// newStallTimer derives the context of a request. The timer runs.
func newStallTimer(ctx context.Context, limit time.Duration) *stallTimer {
	ctx, cancel := context.WithCancelCause(ctx)
	return &stallTimer{ctx: ctx, cancel: cancel, limit: limit, timer: time.AfterFunc(limit, func() { cancel(errStalled) })}
}

func (t *stallTimer) start() { t.timer.Reset(t.limit) }
func (t *stallTimer) stop()  { t.timer.Stop() }

// end cuts what is still under way and frees the timer.
func (t *stallTimer) end() {
	t.timer.Stop()
	t.cancel(context.Canceled)
}

// errStalled is the cause with which a request is cut that brings nothing.
var errStalled = errors.New("nothing came for too long")

// minRate is how many bytes a second an answer must bring, on average over twice the
// stall time.
const minRate = 1024

// errSlow is the reason to cut an answer that brought too little.
var errSlow = fmt.Errorf("less than %d bytes a second", minRate)

// A rate measures how fast bytes come, over windows of time in which the Client waited
// for the network.
type rate struct {
	spent time.Duration
	bytes int
	slow  int // windows in a row that were too slow
}

// add reports whether a window has just ended that was too slow.
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

// maxCallerTime is how much time between its reads a caller may take for itself, in all.
// Further time counts like time in which the Client waited for the network: even a slow
// disk takes more than minRate.
const maxCallerTime = time.Hour

// A pace is the rate of a blob from one host by the clock. From the first request on,
// all time counts in which the caller waits in Blob or in Read: also the time until an
// answer begins, for a token, and between two tries, because a server that is slow there
// is as slow as one that is slow within its answers. Two kinds of time do not count, each
// up to a limit in all: the waits that the server orders, up to MaxWait, and what the
// caller does between two reads, up to maxCallerTime.
type pace struct {
	rate
	at      time.Time     // time has been counted up to here
	ordered time.Duration // of the patience's ordered waits, looked at so far
	granted time.Duration // of those, not counted
	callers time.Duration // between reads
}

// enter records that the caller has come back, after time of its own.
func (p *pace) enter(now time.Time) {
	if !p.at.IsZero() {
		before := p.callers
		p.callers += now.Sub(p.at)
		p.spent += max(0, p.callers-max(before, maxCallerTime))
	}
	p.at = now
}

// elapse counts the time up to now. ordered is how long the Client has waited in all
// because servers ordered it, and most how much of that does not count.
func (p *pace) elapse(now time.Time, ordered, most time.Duration) {
	d := now.Sub(p.at)
	grant := min(ordered-p.ordered, max(0, most-p.granted), d)
	p.ordered = ordered
	p.granted += grant
	p.spent += d - grant
	p.at = now
}

// nextHost is the pace of the next host, which is asked from now on.
func (p *pace) nextHost(now time.Time) pace { return pace{at: now, callers: p.callers} }
