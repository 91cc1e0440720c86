package fetch

import (
	"context"
	"io"
	"time"

	"github.com/pullkit/pullkit/internal/spans"
)

// A conn fetches one part of a large blob after another. It counts as one connection to
// the server, although the Source may use several connections one after another. Except
// for bodyEnd, body, ctx and cancel, its fields are guarded by the lock of the
// largeFetch.
type conn struct {
	part      spans.Span // what is left of its part; the end may come nearer
	reserved  int64      // up to where it reads now
	delivered bool       // it has brought bytes
	from      *conn      // the conn whose bytes it takes over; nil after that
	speed     speed
	bodyEnd   int64 // where the body ends
	body      io.ReadCloser
	ctx       context.Context // of its requests
	cancel    context.CancelFunc
}

// newConn returns a conn for part that is expected to take read seconds for a byte. read is
// 0 if that is not known.
func newConn(ctx context.Context, part spans.Span, read float64) *conn {
	c := &conn{part: part, reserved: part.Off, speed: newSpeed(read)}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// assign gives c another part.
func (c *conn) assign(part spans.Span) {
	c.part, c.reserved, c.speed = part, part.Off, newSpeed(c.perByte())
}

// perByte returns how many seconds c takes for a byte.
func (c *conn) perByte() float64 { return c.speed.perByte(time.Now()) }

// openPart asks the Source for c's part.
func (l *largeFetch) openPart(c *conn, partOnly bool) (start int64, err error) {
	l.mu.Lock() // another connection may be about to take over some of an active one's part
	part := c.part
	added := len(l.active)+len(l.starting) > 1
	l.mu.Unlock()
	c.bodyEnd = part.End
	c.body, start, err = l.open(c.ctx, part, partOnly, added)
	return start, err
}

// A writer writes what a connection has read, one buffer at a time, while the connection
// reads the next one.
type writer struct {
	fetch *largeFetch
	conn  *conn
	done  chan error // of the write under way
	busy  bool       // a write is under way
}

// write begins to write buf, which the caller must not use after that. The error is that
// of the previous write.
func (w *writer) write(buf []byte, off int64) error {
	if err := w.wait(); err != nil || len(buf) == 0 {
		w.fetch.pool.put(buf)
		return err
	}
	if w.done == nil {
		w.done = make(chan error, 1)
	}
	w.busy = true
	go func() {
		err := w.writeNow(buf, off)
		if err != nil {
			w.conn.cancel() // the bytes being read are useless, and may take long to come
		}
		w.done <- err
	}()
	return nil
}

// wait returns when no write is under way. The error is that of the last write.
func (w *writer) wait() error {
	if !w.busy {
		return nil
	}
	w.busy = false
	return <-w.done
}

func (w *writer) writeNow(buf []byte, off int64) error {
	w.fetch.budget.writeBegins()
	err := w.fetch.writeAt(buf, off)
	w.fetch.budget.writeEnds()
	if err != nil {
		w.fetch.pool.put(buf)
		return err
	}
	w.fetch.wrote(w.conn, buf)
	return nil
}

// stream reads c's body up to the end of c's part and writes it. When stream returns,
// no write is under way, and c.part.Off says up to where the part is written.
func (l *largeFetch) stream(c *conn) (err error) {
	w := writer{fetch: l, conn: c}
	defer func() {
		if werr := w.wait(); werr != nil {
			err = werr
		}
	}()
	at, last := c.part.Off, time.Now()
	for {
		n, err := l.reserve(c, at)
		if err != nil {
			return err
		}
		if n == 0 && at < c.bodyEnd {
			return nil // another connection fetches the rest
		}
		if n == 0 {
			return l.readEnd(c.body, at)
		}
		buf, err := l.pool.get(c.ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		n, rerr := readFull(c.body, buf[:n])
		l.received(c, n, began.Sub(last), time.Since(began))
		last = time.Now()
		if err := w.write(buf[:n], at); err != nil {
			return err
		}
		if rerr != nil {
			return rerr
		}
		at += int64(n)
	}
}

// received counts n bytes that c has read within d, and the time before that.
func (l *largeFetch) received(c *conn, n int, before, d time.Duration) {
	if n == 0 {
		return
	}
	l.mu.Lock()
	first := !c.delivered
	c.delivered = true
	c.speed.add(time.Now(), int64(n))
	l.mu.Unlock()
	l.budget.received(int64(n), first, before, d)
}

// reserve returns how many bytes c reads next, from at on. If c is at the mark, it waits
// until the queue has room for them. If another large blob needs c's connection, reserve
// gives back the rest of c's part and returns 0.
func (l *largeFetch) reserve(c *conn, at int64) (int, error) {
	for {
		l.mu.Lock()
		if !l.givingWay && l.canGiveWay() && l.config.Queue.Waiting() {
			l.givingWay = true
			l.unassigned = l.unassigned.Add(spans.Span{Off: at, End: c.part.End})
			c.part.End = at
		}
		n := min(c.part.End-at, bufferSize)
		queued := len(l.queue)
		if c.part.Off < at { // the buffer that is being written goes into the queue as well
			queued++
		}
		if n == 0 || c.part.Off != l.mark || queued < queueLength {
			c.reserved = at + n
			l.mu.Unlock()
			return int(n), nil
		}
		l.mu.Unlock()
		select {
		case <-l.room:
		case <-c.ctx.Done():
			return 0, context.Cause(c.ctx)
		}
	}
}

// wrote records that c has written buf, and puts buf into the queue or back into the
// pool. The caller must not use buf after that.
func (l *largeFetch) wrote(c *conn, buf []byte) {
	n := int64(len(buf))
	l.Progress.Got.Add(n)
	l.mu.Lock()
	at := c.part.Off
	l.written = l.written.Add(spans.Span{Off: at, End: at + n})
	queued := at == l.mark && !l.verifies
	if queued {
		l.queue = append(l.queue, chunk{buf, at})
		l.mark += n
	}
	c.part.Off += n
	l.mu.Unlock()
	if !queued {
		l.pool.put(buf)
	}
	signal(l.wake)
}
