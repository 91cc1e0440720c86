package registry

import (
	"fmt"
	"time"
)

// minRate is how many bytes a second a blob must bring, on average over twice
// the stall time.
const minRate = 1024

// errSlow is why an answer was cut that brought too little.
var errSlow = fmt.Errorf("less than %d bytes a second", minRate)

// A rate measures how fast bytes come, over windows of time in which the network was
// waited for.
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

// maxCallerTime is how much time between its reads a caller may take for itself, in
// all. What goes beyond it counts like time in which the network was waited for: even a
// slow disk takes more than minRate.
const maxCallerTime = time.Hour

// A pace is the rate of a blob from one host on the wall clock: from the first request
// on, all time counts in which the caller waits in Blob or in Read. That is also the
// time until an answer begins, for a token, and between two tries, because a server
// that is slow there is as slow as one that is slow within its answers. Two kinds of
// time do not count, each up to a limit in all: what the server ordered the client to
// wait, up to MaxWait, and what the caller does between two reads, up to maxCallerTime.
type pace struct {
	rate
	at      time.Time     // up to when time has been dealt with
	ordered time.Duration // of what patience waited for servers, dealt with
	granted time.Duration // of that, not counted
	callers time.Duration // between reads
}

// enter is told that the caller has come back, after time that is its own.
func (p *pace) enter(now time.Time) {
	if !p.at.IsZero() {
		before := p.callers
		p.callers += now.Sub(p.at)
		p.spent += max(0, p.callers-max(before, maxCallerTime))
	}
	p.at = now
}

// elapse counts the time up to now. waited is how long servers were waited for in all
// because they asked for it, and most how much of that does not count.
func (p *pace) elapse(now time.Time, waited, most time.Duration) {
	d := now.Sub(p.at)
	grant := min(waited-p.ordered, max(0, most-p.granted), d)
	p.ordered = waited
	p.granted += grant
	p.spent += d - grant
	p.at = now
}

// anew is the pace of the next host, from now on.
func (p *pace) anew(now time.Time) pace { return pace{at: now, callers: p.callers} }
