package serve

import (
	"sync"
	"time"
)

const (
	// chunk is how many bytes are sent under one deadline.
	chunk = 128 << 10
	// slowAfter is how long a chunk may take. After that, another request may take the lane.
	// So a client must read 32 KiB/s to be sure of its lane.
	slowAfter = 4 * time.Second
)

// lanes limits how many answers are sent at the same time. A client that reads slowly
// loses its lane if another request needs one.
type lanes struct {
	limit int

	mu   sync.Mutex
	open map[*lane]struct{}
}

// A lane is one answer that is being sent.
type lane struct {
	lanes *lanes
	since time.Time // when the current chunk started
	cut   func()    // ends the answer
}

// enter returns a lane, or nil if all lanes are in use by clients that read fast enough.
// cut ends the answer; it may be called in another goroutine.
func (l *lanes) enter(cut func()) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.open) >= l.limit {
		var slowest *lane
		for other := range l.open {
			if slowest == nil || other.since.Before(slowest.since) {
				slowest = other
			}
		}
		if slowest == nil || now.Sub(slowest.since) < slowAfter {
			return nil
		}
		delete(l.open, slowest)
		slowest.cut()
	}
	if l.open == nil {
		l.open = map[*lane]struct{}{}
	}
	n := &lane{l, now, cut}
	l.open[n] = struct{}{}
	return n
}

// progress notes that a chunk starts. It reports whether the answer still has its lane.
func (n *lane) progress() bool {
	n.lanes.mu.Lock()
	defer n.lanes.mu.Unlock()
	_, ok := n.lanes.open[n]
	n.since = time.Now()
	return ok
}

// leave gives the lane back at the end of the answer.
func (n *lane) leave() {
	n.lanes.mu.Lock()
	defer n.lanes.mu.Unlock()
	delete(n.lanes.open, n)
}
