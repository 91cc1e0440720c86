package wan

import (
	"sync"
	"time"
)

// A Link is a long distance that connections share. It must not be copied after the
// first use.
type Link struct {
	Delay  time.Duration // of each byte in either direction: half a round trip
	Rate   int64         // bytes a second to all clients together, 0 = no limit
	Window int64         // the most bytes that a connection has on their way in a direction, 0 = DefaultWindow

	// SlowStart lets each connection start with a small window. Without it a connection has
	// the whole Window at once.
	SlowStart bool

	mu   sync.Mutex
	free time.Time // when the rate allows the next byte
}

// DefaultWindow is how many bytes a connection of Linux has on their way at most, by default:
// the largest size to which Linux itself sets a send buffer.
const DefaultWindow = 4 << 20

// RoundTrip returns the shortest time between a request and its answer.
func (l *Link) RoundTrip() time.Duration { return 2 * l.Delay }

// passed returns when n more bytes to clients have passed the part of the link that all
// connections share.
func (l *Link) passed(n int) time.Time {
	now := time.Now()
	if l.Rate == 0 {
		return now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(int64(n) * int64(time.Second) / l.Rate))
	return l.free
}

func (l *Link) window() *window {
	most := l.Window
	if most == 0 {
		most = DefaultWindow
	}
	w := &window{size: firstWindow, least: firstWindow, most: max(most, firstWindow), timeout: l.RoundTrip() + minTimeout}
	if !l.SlowStart {
		w.size, w.least = w.most, w.most
	}
	w.changed.L = &w.mu
	return w
}
