package transfer

import (
	"sync"
	"time"
)

const (
	// firstLanes is how many large blobs are fetched at once to begin with.
	firstLanes = 8
	// laneWindow is how long is measured before a lane is added.
	laneWindow = 40 * time.Millisecond
	// laneSettle is left out of the measurement when a connection has brought its
	// first bytes: what was under way meanwhile comes all at once.
	laneSettle = 30 * time.Millisecond
	// laneHold is how long no lane is added after one that brought nothing: the
	// network is shared, or the processors or the disk are at their limit.
	laneHold = 2 * time.Second
)

// Lanes are the connections over which large blobs come, of all pulls. Their
// number grows by one at a time while the hashes wait for bytes, and while each
// one more brings more. A free lane goes to the next large blob, or, when there
// is none, to one that is under way: that is then fetched in parts.
type lanes struct {
	max     int
	hashing *limiter

	mu      sync.Mutex
	open    int  // in use
	blobs   int  // that use them
	allowed int  // beside the first ones
	adding  bool // one was added and has brought nothing yet

	// Since the window began:
	since   time.Time
	starved time.Duration // what hashes waited for bytes, over all blobs
	writing time.Duration // what writes took, over all lanes
	beside  time.Duration // of that, while the lane's connection could read on
	hashed  time.Duration // spent with hashing before
	bytes   int64

	writers   int       // writes under way
	besides   int       // those of them beside which is read
	countedAt time.Time // up to when they are in writing and beside

	rate   float64   // bytes a second
	best   float64   // the rate before the last lane was added
	missed int       // times in a row that one more brought nothing
	hold   time.Time // until then none is added
}

func newLanes(limit int, hashing *limiter) *lanes {
	return &lanes{max: limit, hashing: hashing}
}

// take takes a lane, if one is free; blob says that it is a blob's first.
func (l *lanes) take(blob bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := l.open < l.allowed || blob && l.open < min(l.max, firstLanes)
	if !free {
		return false
	}
	l.open++
	if blob {
		l.blobs++
	}
	return true
}

// leave gives n lanes back; blob says that one is a blob's first. With the last
// one all that was learned is forgotten.
func (l *lanes) leave(n int, blob bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if blob {
		l.blobs--
	}
	l.open -= n
	l.best = 0
	if l.open == 0 {
		l.allowed, l.adding, l.missed, l.hold = 0, false, 0, time.Time{}
	}
}

// moved counts bytes that came. With the first ones of a connection the
// measurement begins anew.
func (l *lanes) moved(n int64, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if first {
		l.adding = false
		l.begin(now.Add(laneSettle))
	}
	if !now.Before(l.since) {
		l.bytes += n
	}
}

func (l *lanes) begin(since time.Time) {
	l.since, l.starved, l.writing, l.beside, l.bytes, l.hashed = since, 0, 0, 0, 0, l.hashing.spent()
}

// write says that a write begins, and whether its connection can read on
// meanwhile: if fewer lanes are in use than there are processors.
func (l *lanes) write() (beside bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(time.Now())
	l.writers++
	if beside = l.open < cap(l.hashing.slots); beside {
		l.besides++
	}
	return beside
}

// written says that a write has ended.
func (l *lanes) written(beside bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(time.Now())
	l.writers--
	if beside {
		l.besides--
	}
}

// count counts the time of the writes under way: a slow disk shows before the
// first of them ends.
func (l *lanes) count(now time.Time) {
	from := l.countedAt
	if from.Before(l.since) {
		from = l.since
	}
	if d := now.Sub(from); d > 0 {
		l.writing += d * time.Duration(l.writers)
		l.beside += d * time.Duration(l.besides)
	}
	l.countedAt = now
}

// diskIsSlow reports whether writing takes so much of the time that it is not the
// network that is slow. What was written beside reading counts as if it had been
// done after it: the one is as slow as before, compared with the other.
func (l *lanes) diskIsSlow(elapsed time.Duration) bool {
	return l.writing > (elapsed*time.Duration(l.open)+l.beside)/4
}

// wait counts how long a hash waited, and says whether another lane is free now.
func (l *lanes) wait(starved time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	elapsed := now.Sub(l.since)
	if elapsed > 0 {
		l.starved += min(starved, elapsed)
	}
	if l.adding || elapsed < laneWindow || l.blobs == 0 {
		return false
	}
	waited := l.starved / time.Duration(l.blobs)
	busy := l.hashing.spent() - l.hashed
	l.rate = float64(l.bytes) / elapsed.Seconds()
	l.count(now)
	switch {
	case waited < elapsed/4 || l.diskIsSlow(elapsed) || busy > elapsed*time.Duration(cap(l.hashing.slots))*3/4:
		if elapsed >= 4*laneWindow {
			l.begin(now)
		}
		return false
	case l.open >= l.max || now.Before(l.hold):
		l.begin(now)
		return false
	case waited < elapsed*3/5 && elapsed < 2*laneWindow:
		return false // it may be chance
	case l.rate < l.best*(1+0.3/float64(l.open)):
		if elapsed >= 5*laneWindow {
			l.miss(now)
		}
		return false
	}
	if l.best > 0 {
		l.missed = 0
	}
	l.best = l.rate
	l.allowed = l.open + 1
	l.begin(now)
	return true
}

// miss notes that the last lane brought nothing. The rate before it may have
// been measured too high, so one more is tried.
func (l *lanes) miss(now time.Time) {
	l.best = 0
	l.begin(now)
	if l.missed++; l.missed == 2 {
		l.missed = 0
		l.hold = now.Add(laneHold)
	}
}

// added says that a lane is being opened: nothing is measured until it brings
// its first bytes, or until it failed.
func (l *lanes) added(adding bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.adding = adding
}

// lead is how far ahead of a connection another one begins: what comes in the
// time that it takes to open it, on slow links too.
func (l *lanes) lead() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	lead := int64(l.rate / float64(max(1, l.open)) / 4)
	return max(1<<20, min(lead, partSize)) / bufferSize * bufferSize
}
