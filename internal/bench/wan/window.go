package wan

import (
	"sync"
	"time"
)

const (
	segment     = 1460         // bytes
	firstWindow = 10 * segment // RFC 6928
	minTimeout  = 200 * time.Millisecond
)

// A window limits how many bytes of one direction of a connection are on their way.
type window struct {
	least   int64 // the size after a long silence
	most    int64
	timeout time.Duration

	mu      sync.Mutex
	changed sync.Cond
	size    int64
	sent    int64     // bytes
	acked   int64     // of sent: bytes that are not on their way any more
	mark    int64     // a new peak starts when acked reaches this
	peak    int64     // the most bytes on their way since the last mark
	last    time.Time // when bytes were last sent
	closed  bool
}

// take waits until bytes may be sent: a segment, or n if n is smaller. It returns how many of n
// bytes may be sent, or 0 if the window was closed. After silence it first makes the window
// smaller.
func (w *window) take(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.sent == w.acked && !w.last.IsZero() {
		for silent := now.Sub(w.last); silent >= w.timeout && w.size > w.least; silent -= w.timeout {
			w.size = max(w.size/2, w.least)
		}
	}
	for !w.closed && w.size-(w.sent-w.acked) < min(int64(n), segment) {
		w.changed.Wait()
	}
	if w.closed {
		return 0
	}
	n = int(min(int64(n), w.size-(w.sent-w.acked)))
	w.last = time.Now()
	w.sent += int64(n)
	if w.acked >= w.mark {
		w.peak, w.mark = 0, w.sent
	}
	w.peak = max(w.peak, w.sent-w.acked)
	return n
}

// acknowledge notes that n bytes have arrived. The window grows by n if the sender needs a
// larger one.
func (w *window) acknowledge(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked += n
	if 2*w.peak >= w.size {
		w.size = min(w.size+n, w.most)
	}
	w.changed.Broadcast()
}

// close wakes the sender. All later calls of take return 0.
func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.changed.Broadcast()
}
