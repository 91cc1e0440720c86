package transfer

import (
	"context"
	"io"
	"slices"

	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
)

// partSize is how much a connection is asked for once a blob is fetched in
// parts: enough that a round trip between two parts matters little, and little
// enough that the hash, which goes in order, is never far behind. One that was
// added begins with firstPart and is asked for twice as much each time: what it
// was sent and has not read yet is lost when the process dies.
const (
	partSize    = 8 << 20
	minPartSize = 4 << 20
	firstPart   = 1 << 20
)

// A conn fetches one part of a blob after the other.
type conn struct {
	spans.Span       // Off is how far it has written; End may come nearer
	asked      int64 // where the body ends
	claimed    int64 // where the read under way will end
	part       int64 // how much it may be asked for at a time
	moved      bool  // it has brought bytes
	body       io.ReadCloser
	ctx        context.Context // of its requests
	cancel     context.CancelFunc
	donor      *conn // whose rest this one would take over; nil once it has
}

func newConn(ctx context.Context, s spans.Span) *conn {
	c := &conn{Span: s, part: partSize}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

func (p *pipe) open(c *conn, alone bool) (start int64, err error) {
	p.mu.Lock() // c may be live, and another connection about to take some of its part over
	s := c.Span
	p.mu.Unlock()
	c.asked = s.End
	c.body, start, err = p.t.open(c.ctx, s, alone)
	return start, err
}

// serve fetches c's part, and then others as long as there are any.
func (p *pipe) serve(c *conn) {
	defer c.cancel()
	for {
		err := p.stream(c)
		_ = c.body.Close() // all that was wanted of it has been read
		if err == nil && p.cede(c) {
			return
		}
		if (err == nil || p.retry(c, err)) && p.nextPart(c) {
			_, err = p.open(c, true)
			if err == nil {
				continue
			}
		}
		p.gone(c, err)
		return
	}
}

// stream reads c's body up to c's end, and writes it. Nothing is being written, and
// c.Off says how far it came, when it returns.
func (p *pipe) stream(c *conn) (err error) {
	w := writer{pipe: p, conn: c}
	defer func() {
		if werr := w.wait(); werr != nil {
			err = werr
		}
	}()
	at := c.Off
	for {
		n, err := p.claim(c, at)
		if err != nil {
			return err
		}
		if n == 0 && at < c.asked {
			return nil // another connection fetches the rest
		}
		if n == 0 {
			return p.t.atEnd(c.body, at)
		}
		buf, err := p.t.rt.pool.get(c.ctx)
		if err != nil {
			return err
		}
		n, rerr := readFull(c.body, buf[:n])
		if err := w.write(buf[:n], at); err != nil {
			return err
		}
		if rerr != nil {
			return rerr
		}
		at += int64(n)
	}
}

// claim says how much c is to read next, from at on, once the queue has room for it.
func (p *pipe) claim(c *conn, at int64) (int, error) {
	for {
		p.mu.Lock()
		n := min(c.End-at, bufferSize)
		queued := len(p.queue)
		if c.Off < at { // what is being written will be
			queued++
		}
		if n == 0 || c.Off != p.mark || queued < queueBuffers {
			c.claimed = at + n
			p.mu.Unlock()
			return int(n), nil
		}
		p.mu.Unlock()
		select {
		case <-p.room:
		case <-c.ctx.Done():
			return 0, context.Cause(c.ctx)
		}
	}
}

// retry says whether what c could not have is asked for once more, of all that
// is missing: if others were beside c and have ended, their number may have
// been what the server did not bear.
func (p *pipe) retry(c *conn, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.t.panicked.Load() != nil || !p.split || p.retried || p.err != nil || c.donor != nil || len(p.live)+len(p.probes) > 1 || c.ctx.Err() != nil {
		return false
	}
	switch content.KindOf(err) {
	case content.ErrRateLimited, content.ErrUnavailable, content.ErrNetwork, content.ErrTimeout, content.ErrStatus, "":
		p.retried, p.closed = true, true
		if c.Off < c.End {
			p.pending = p.pending.Add(c.Span)
		}
		return true
	}
	return false
}

// nextPart gives c something to fetch, if anything is left.
func (p *pipe) nextPart(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) == 0 || p.err != nil {
		return false
	}
	c.part = min(2*c.part, partSize)
	c.Span = p.cutPending(c.part)
	c.claimed = c.Off
	return true
}

// cutPending takes the first missing part: all of it, unless parts are fetched
// apart. p.mu is held.
func (p *pipe) cutPending(limit int64) spans.Span {
	s := p.pending[0]
	if n := p.part(s, limit); p.split && n < s.End-s.Off {
		s.End = s.Off + n
		p.pending[0].Off = s.End
	} else {
		p.pending = p.pending[1:]
	}
	return s
}

// part is how much of s one connection is given, which may be asked for limit;
// smaller towards the end, so that all connections end at about the same time.
func (p *pipe) part(s spans.Span, limit int64) int64 {
	return min(limit, max(minPartSize, (s.End-s.Off)/int64(len(p.live)+1)))
}

// gone takes c, which ended with err or found nothing more to do, out of the
// live ones. Its part is left to the others; the blob has failed when there are none.
func (p *pipe) gone(c *conn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(c)
	if err == nil {
		return
	}
	p.closed = true
	if c.Off < c.End {
		p.pending = p.pending.Add(c.Span)
	}
	if len(p.live) == 0 || content.KindOf(err) == content.ErrStore || content.KindOf(err) == content.ErrSizeMismatch {
		if p.err == nil {
			p.err = err
		}
		signal(p.wake)
		return
	}
	p.t.rt.log.Debug("connection given up, others go on", "digest", p.t.desc.Digest, "error", err)
}

// drop takes c out of the live ones. p.mu is held.
func (p *pipe) drop(c *conn) {
	p.live = slices.DeleteFunc(p.live, func(d *conn) bool { return d == c })
	p.narrow()
	if !c.moved {
		p.t.rt.lanes.added(false)
	}
}

// cede ends c between two parts, if others go on with this blob, and another
// large one has no lane: those are for blobs first.
func (p *pipe) cede(c *conn) bool {
	if !p.t.rt.flights.needLane() {
		return false
	}
	p.mu.Lock()
	spare := p.extra > 0 && len(p.live) > 1
	if spare {
		p.drop(c)
	}
	p.mu.Unlock()
	if spare {
		p.t.rt.flights.widen()
	}
	return spare
}

// add opens one connection more: for a missing part, or for a part of what the
// connection with the longest way to go would come to. p.mu is held.
func (p *pipe) add(ctx context.Context) bool {
	var s spans.Span
	var donor *conn
	if len(p.pending) > 0 {
		p.split = true
		s = p.cutPending(firstPart)
	} else {
		for _, c := range p.live {
			if donor == nil || c.End-c.claimed > donor.End-donor.claimed {
				donor = c
			}
		}
		if donor == nil {
			return false
		}
		s = spans.Span{Off: donor.claimed + p.t.rt.lanes.lead(), End: donor.End}
		if s.End-s.Off < minPartSize {
			return false
		}
		s.End = s.Off + min(p.part(s, firstPart), s.End-s.Off)
	}
	c := newConn(ctx, s)
	c.claimed, c.part = c.Off, firstPart
	c.donor = donor
	p.t.rt.log.Debug("connection added", "digest", p.t.desc.Digest, "connections", len(p.live)+1, "at", s.Off)
	p.t.rt.lanes.added(true)
	p.extra++
	p.probes = append(p.probes, c)
	p.conns.Go(func() { p.join(c) })
	return true
}

// narrow gives a connection's lane back, unless it was the blob's last. p.mu is held.
func (p *pipe) narrow() {
	if p.extra > 0 {
		p.extra--
		p.t.rt.lanes.leave(1, false)
	}
}

// join opens c and makes it one of the live connections, unless the server
// does not give parts, or the bytes have come meanwhile.
func (p *pipe) join(c *conn) {
	_, err := p.open(c, true)
	if err != nil && p.retry(c, err) && p.nextPart(c) {
		_, err = p.open(c, true)
	}
	p.mu.Lock()
	p.probes = slices.DeleteFunc(p.probes, func(d *conn) bool { return d == c })
	if err == nil && p.takeOver(c) {
		p.live = append(p.live, c)
		p.mu.Unlock()
		p.serve(c)
		return
	}
	p.t.rt.lanes.added(false)
	p.narrow()
	if err != nil {
		p.closed = true
	}
	if c.donor == nil {
		p.pending = p.pending.Add(c.Span)
		if len(p.live) == 0 && p.err == nil {
			p.err = err
			signal(p.wake)
		}
	}
	p.mu.Unlock()
	if err == nil {
		_ = c.body.Close()
	}
	c.cancel()
}

// takeOver moves the rest of c's donor to c and to what is pending. p.mu is held.
func (p *pipe) takeOver(c *conn) bool {
	d := c.donor
	if d == nil {
		return p.err == nil
	}
	if p.err != nil || !slices.Contains(p.live, d) || d.claimed > c.Off || d.End < c.End {
		return false
	}
	if c.End < d.End {
		p.pending = p.pending.Add(spans.Span{Off: c.End, End: d.End})
	}
	d.End = c.Off
	c.donor = nil
	p.split = true
	return true
}

// stopProbes ends requests for parts that nobody needs any more.
func (p *pipe) stopProbes() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.probes {
		c.cancel()
	}
}
