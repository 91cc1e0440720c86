package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// A stallTimer cuts a request that brings nothing for the time limit. The timer runs
// while the Client waits for the network, and is stopped while the caller works.
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
	least int // bytes a second; 0 means minRate
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
	slow := float64(r.bytes) < float64(cmp.Or(r.least, minRate))*r.spent.Seconds()
	r.spent, r.bytes = 0, 0
	if slow {
		r.slow++
	} else {
		r.slow = 0
	}
	return slow
}

// maxCallerTime is how much time a caller may take between its reads of one blob, in all.
// Further time counts like time in which the Client waits for the network. An hour is
// enough even for a slow disk, which is much faster than minRate.
const maxCallerTime = time.Hour

// A pace is the rate at which one host sends a blob, over all its answers. From the first
// request on, all time counts in which the caller waits in Blob or Read. That includes
// the time until an answer begins, the time for a token, and the time between two tries,
// because a server can be slow there, too. Two kinds of time do not count, each up to a
// limit in all: the waits that the server orders, up to MaxWait, and the caller's own
// time between two reads, up to maxCallerTime.
type pace struct {
	rate
	at      time.Time     // the time up to which time has been counted
	ordered time.Duration // the part of patience.ordered that elapse has seen
	granted time.Duration // the part of ordered that was left out of the count
	callers time.Duration // the caller's own time between reads
}

// enter records the beginning of a call of Blob or Read, and counts the caller's own time
// before it.
func (p *pace) enter(now time.Time) {
	if !p.at.IsZero() {
		before := p.callers
		p.callers += now.Sub(p.at)
		p.spent += max(0, p.callers-max(before, maxCallerTime))
	}
	p.at = now
}

// elapse counts the time up to now. ordered is the sum of all waits that servers ordered
// so far. At most maxOrdered of that sum is left out of the count.
func (p *pace) elapse(now time.Time, ordered, maxOrdered time.Duration) {
	d := now.Sub(p.at)
	grant := min(ordered-p.ordered, max(0, maxOrdered-p.granted), d)
	p.ordered = ordered
	p.granted += grant
	p.spent += d - grant
	p.at = now
}

// nextHost returns the pace of the next host, which is asked from now on.
func (p *pace) nextHost(now time.Time) pace { return pace{at: now, callers: p.callers} }
