package transfer

import (
	"context"
	"time"
)

// paceWindow is how long is measured before a connection is added.
const paceWindow = 40 * time.Millisecond

// A pace says whether one connection more would help: the hash has been waiting
// for bytes, no other blob keeps the processors busy with hashing, and the last
// connection that was added did help.
type pace struct {
	since   time.Time
	starved time.Duration // of the hash, since then
	hashed  time.Duration // of all hashing in the Runtime, at that time
	bytes   int64         // that came since then
	rate    float64       // bytes a second in the last window
	best    float64       // the highest rate that was enough to add a connection
	idle    int           // windows in a row without a gain
	adding  bool          // a connection was added and has brought nothing yet
}

func (w *pace) begin(now time.Time) { w.since, w.starved, w.bytes = now, 0, 0 }

// moved notes that c brought n bytes. The measurement begins anew with a
// connection's first ones.
func (w *pace) moved(c *conn, n int64) {
	w.bytes += n
	if !c.moved {
		c.moved = true
		w.adding = false
		w.begin(time.Now())
	}
}

// lead is how far ahead of a connection another one begins: what comes in the
// time that it takes to open it, on slow links too.
func (w *pace) lead() int64 {
	lead := int64(w.rate / 4)
	return max(1<<20, min(lead, partSize)) / bufferSize * bufferSize
}

// consider notes how long the hash waited, and adds a connection if that helps.
func (p *pipe) consider(ctx context.Context, starved time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.pace
	w.starved += starved
	if p.closed || w.adding || len(p.live) == 0 || len(p.live) >= p.t.rt.ranges {
		return
	}
	now := time.Now()
	elapsed := now.Sub(w.since)
	if elapsed < paceWindow {
		return
	}
	hashed := p.t.rt.hashing.spent()
	busy := hashed - w.hashed
	w.hashed = hashed
	slow := w.starved > elapsed/4 && busy < elapsed*time.Duration(cap(p.t.rt.hashing.slots))*3/4
	w.rate = float64(w.bytes) / elapsed.Seconds()
	w.begin(now)
	if !slow {
		return
	}
	if w.rate < w.best*(1+0.25/float64(len(p.live))) {
		// One more did not bring more: the link is shared, not the connection slow.
		if w.idle++; w.idle > maxIdle {
			p.closed = true
		}
		return
	}
	w.idle = 0
	if p.add(ctx) {
		w.best = w.rate
	}
}

// maxIdle is how many windows in a row may bring no more than before the last
// connection was added.
const maxIdle = 4
