package fetch

import (
	"sync"
	"time"
)

const (
	// firstConns is how many large blobs are fetched at the same time to begin with,
	// each over one connection.
	firstConns = 8
	// window is how long the budget measures before a connection is added.
	window = 40 * time.Millisecond
	// settle is how long nothing is measured after the first bytes of a new connection.
	// In this time, bytes that were sent to the other connections before arrive all at
	// once.
	settle = 30 * time.Millisecond
	// holdFor is how long no connection is added after two connections in a row brought
	// nothing. The network is then shared with others, or the processors or the disk are
	// at their limit.
	holdFor = 2 * time.Second
)

// A budget decides over how many connections the large blobs of all pulls come. The
// number grows by one at a time, as long as the hashes wait for bytes and each added
// connection brings more. A free connection goes to the next large blob, or, if no
// blob waits, to one that is being fetched, which is then fetched in parts.
type budget struct {
	limit   int // of connections
	hashing *hashLimit

	mu      sync.Mutex
	open    int  // connections in use
	blobs   int  // large blobs that use them
	allowed int  // how many connections may be open; the first ones of blobs may exceed it, up to firstConns
	opening bool // a connection was added and has brought nothing yet

	// Measured since the window began:
	began      time.Time
	starved    time.Duration // how long hashes waited for bytes, added up over all blobs
	writing    time.Duration // how long writes took, added up over all connections
	hashBefore time.Duration // hashing.spent when the window began
	bytes      int64
	busy       time.Duration // how long connections did not wait for the network, added up

	writers   int       // writes under way
	countedAt time.Time // up to when writing is counted

	rate      float64   // bytes a second, as last measured
	best      float64   // rate before the last connection was added; 0 if not known
	fruitless int       // how many connections in a row brought nothing
	heldUntil time.Time // no connection is added before this time
}

func newBudget(limit int, hashing *hashLimit) *budget {
	return &budget{limit: limit, hashing: hashing}
}

// acquireFirst takes a blob's first connection, if one is free.
func (b *budget) acquireFirst() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open >= b.allowed && b.open >= min(b.limit, firstConns) {
		return false
	}
	b.open++
	b.blobs++
	return true
}

// acquire takes another connection for a blob that has one, if one is free.
func (b *budget) acquire() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open >= b.allowed {
		return false
	}
	b.open++
	return true
}

// releaseFirst gives a blob's first connection back.
func (b *budget) releaseFirst() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blobs--
	b.close(1)
}

// release gives n connections back that acquire took.
func (b *budget) release(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.close(n)
}

// close subtracts n from the number of open connections. With the last connection, it
// resets what was measured. The lock is held.
func (b *budget) close(n int) {
	b.open -= n
	b.best = 0
	if b.open == 0 {
		b.allowed, b.opening, b.fruitless, b.heldUntil = 0, false, 0, time.Time{}
	}
}

// setOpening sets whether a connection is being opened. Nothing is measured until it has
// brought its first bytes, or has failed.
func (b *budget) setOpening(opening bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opening = opening
}

// received counts n bytes that a connection has read within d. before is the time before
// d in which the connection did not read. With the first bytes of a connection, a new
// measurement begins.
func (b *budget) received(n int64, first bool, before, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if first {
		b.opening = false
		b.measureFrom(now.Add(settle))
	}
	if now.Before(b.began) {
		return
	}
	b.bytes += n
	b.busy += before
	if d.Seconds() < 2*b.hashing.perByte()*float64(n) {
		b.busy += d // the bytes were there already
	}
}

// measureFrom begins a new measurement. The lock is held.
func (b *budget) measureFrom(t time.Time) {
	b.began, b.starved, b.writing, b.busy, b.bytes, b.hashBefore = t, 0, 0, 0, 0, b.hashing.spent()
}

// writeBegins counts a write that begins.
func (b *budget) writeBegins() { b.countWriters(1) }

// writeEnds counts the end of a write.
func (b *budget) writeEnds() { b.countWriters(-1) }

func (b *budget) countWriters(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.countWrites(time.Now())
	b.writers += n
}

// countWrites adds the time since the last count for the writes under way, so that a
// slow disk shows before the first write has ended. The lock is held.
func (b *budget) countWrites(now time.Time) {
	from := b.countedAt
	if from.Before(b.began) {
		from = b.began
	}
	if d := now.Sub(from); d > 0 {
		b.writing += d * time.Duration(b.writers)
	}
	b.countedAt = now
}

// waited adds the time for which a hash has waited for bytes. It reports whether a
// connection may be added now.
func (b *budget) waited(starved time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	s := b.sample(now, starved)
	switch decide(s) {
	case restartMeasuring:
		b.measureFrom(now)
	case stopAdding:
		// The rate before may have been measured too high, so one more connection is
		// tried before adding stops for a while.
		b.best = 0
		b.measureFrom(now)
		if b.fruitless++; b.fruitless == 2 {
			b.fruitless = 0
			b.heldUntil = now.Add(holdFor)
		}
	case addConn:
		if b.best > 0 {
			b.fruitless = 0
		}
		b.best = s.rate
		b.allowed = b.open + 1
		b.measureFrom(now)
		return true
	}
	return false
}

// sample returns what was measured up to now, of which a hash waited for starved. The
// lock is held.
func (b *budget) sample(now time.Time, starved time.Duration) sample {
	elapsed := now.Sub(b.began)
	if elapsed > 0 {
		b.starved += min(starved, elapsed)
	}
	b.countWrites(now)
	s := sample{
		elapsed: elapsed, blobs: b.blobs, conns: b.open, limit: b.limit, processors: b.hashing.processors(),
		starved: b.starved, hashed: b.hashing.spent() - b.hashBefore, writing: b.writing, busy: b.busy,
		bestRate: b.best, opening: b.opening, held: now.Before(b.heldUntil),
	}
	if s.ready() {
		b.rate = float64(b.bytes) / elapsed.Seconds()
	}
	s.rate = b.rate
	return s
}

// A sample is what was measured during a window, over all large blobs.
type sample struct {
	elapsed    time.Duration // since the window began
	blobs      int           // large blobs that are fetched
	conns      int           // connections in use, at most limit
	limit      int
	processors int
	starved    time.Duration // added up over all blobs
	hashed     time.Duration // added up over all goroutines
	writing    time.Duration // added up over all connections
	busy       time.Duration // in which connections did not wait for the network, added up
	rate       float64       // bytes a second
	bestRate   float64       // rate before the last connection was added; 0 if not known
	opening    bool          // a connection was added and has brought nothing yet
	held       bool          // the last connections that were added brought nothing
}

// ready reports whether there is enough to decide on.
func (s sample) ready() bool { return !s.opening && s.elapsed >= window && s.blobs > 0 }

// A decision says what follows from a sample.
type decision string

const (
	keepMeasuring    decision = "keep measuring"
	restartMeasuring decision = "restart measuring"
	addConn          decision = "add a connection"
	stopAdding       decision = "the last connection brought nothing"
)

// decide returns whether the large blobs need another connection.
func decide(s sample) decision {
	if !s.ready() {
		return keepMeasuring
	}
	share := s.starved / time.Duration(s.blobs) // how long the hash of one blob waited
	hashIsFaster := share >= s.elapsed/4
	processorsAreBusy := s.hashed > s.elapsed*time.Duration(s.processors)*3/4
	switch {
	case !hashIsFaster || s.connsAreBusy() || s.diskIsSlow() || processorsAreBusy:
		// The network is not the bottleneck.
		return after(4*window, s, restartMeasuring)
	case s.conns >= s.limit || s.held:
		return restartMeasuring
	case share < s.elapsed*3/5 && s.elapsed < 2*window, s.linkIsFast() && s.elapsed < 4*window:
		return keepMeasuring // the difference may be chance
	case s.rate < s.bestRate*(1+0.3/float64(s.conns)):
		// One connection more should bring 1/conns more. Less than a third of that
		// counts as nothing.
		return after(5*window, s, stopAdding)
	}
	return addConn
}

// after returns d if the sample took at least as long as least, and keepMeasuring
// otherwise.
func after(least time.Duration, s sample, d decision) decision {
	if s.elapsed < least {
		return keepMeasuring
	}
	return d
}

// connsAreBusy reports whether connections wait for the network for less than seven
// eighths of their time. Bytes are then there when a connection asks for them. To bring
// more, the connection needs a processor, and another connection would also need a
// processor.
func (s sample) connsAreBusy() bool {
	return s.busy > s.elapsed*time.Duration(s.conns)/8
}

// linkIsFast reports whether each connection is at least a quarter as fast as the hash.
func (s sample) linkIsFast() bool {
	return 4*s.hashed > s.elapsed*time.Duration(s.conns)
}

// diskIsSlow reports whether connections write for more than a third of their time, which
// means that the disk is the bottleneck. Connections read while they write.
func (s sample) diskIsSlow() bool {
	return s.writing > s.elapsed*time.Duration(s.conns)/3
}

// available returns how many connections a blob that has n will have, if each blob gets its
// share of those that are free.
func (b *budget) available(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().Before(b.heldUntil) {
		return n
	}
	return n + (b.limit-b.open)/max(1, b.blobs)
}
