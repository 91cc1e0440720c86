package transfer

import (
	"context"
	"hash"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/spans"
)

// queueBuffers is how many buffers lie between a connection and the hash, with the
// one that is being written: enough to keep both going while the other is at
// something else. Eight gain nothing measurable, with four both stand still now and then.
const queueBuffers = 6

// A pipe fetches one large blob: connections write parts of it to the ingest,
// the goroutine that made the pipe hashes them in order. What comes over the
// connection at the low-water mark is handed over in memory; what others bring
// is read back, from the page cache, when its turn comes. So memory does not
// depend on how far ahead they are.
type pipe struct {
	t     *try
	wake  chan struct{} // there may be more to hash
	room  chan struct{} // there may be room in the queue
	conns sync.WaitGroup

	mu      sync.Mutex
	written spans.Set // in the ingest
	pending spans.Set // missing, and no connection is at it
	live    []*conn
	probes  []*conn // added, and not live yet
	queue   []chunk
	mark    int64 // the low-water mark: all before it is in the queue, or has been taken out
	split   bool  // parts are fetched apart
	closed  bool  // no connection may be added
	retried bool  // what failed beside others was asked for once more
	err     error // why the blob cannot be had
	extra   int   // lanes beside the blob's first
}

// A chunk is a buffer that is to be hashed.
type chunk struct {
	buf []byte
	off int64
}

// pipe runs until all is written and hashed. No goroutine is left when it returns.
func (t *try) pipe(ctx context.Context, h hash.Hash) error {
	p := &pipe{t: t, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), closed: t.whole}
	ctx, cancel := context.WithCancel(ctx)
	defer p.end()
	defer cancel()
	if err := p.begin(ctx); err != nil {
		return err
	}
	for {
		c, err := p.take(ctx)
		if err != nil {
			return err
		}
		if c.buf == nil {
			break
		}
		p.hash(h, c.buf)
	}
	p.stopProbes()
	// The end of a body is where its Source says that there would be more.
	p.conns.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// hash hashes a buffer and gives it back.
func (p *pipe) hash(h hash.Hash, buf []byte) {
	defer p.t.rt.pool.put(buf)
	p.t.rt.hashing.write(h, buf)
	signal(p.room)
}

// begin opens the first connection, if anything is missing.
func (p *pipe) begin(ctx context.Context) error {
	size := p.t.desc.Size
	p.written = append(p.written, p.t.kept...)
	for gap := p.written.Gap(0, size); gap.Off < gap.End; gap = p.written.Gap(gap.End, size) {
		p.pending = append(p.pending, gap)
	}
	if len(p.pending) == 0 {
		return nil
	}
	c := newConn(ctx, p.pending[0])
	start, err := p.open(c, false)
	if err != nil {
		return err
	}
	p.pending = p.pending[1:]
	if start != c.Off { // the whole blob, from its first byte
		p.t.forgetKept()
		c.Span, c.asked = spans.Span{Off: 0, End: size}, size
		p.written, p.pending, p.closed = nil, nil, true
	}
	c.claimed = c.Off
	p.live = []*conn{c}
	p.conns.Go(func() { p.serve(c) })
	return nil
}

// end waits for the connections, whose context has ended, and gives all buffers back.
func (p *pipe) end() {
	p.conns.Wait()
	for _, c := range p.queue {
		p.t.rt.pool.put(c.buf)
	}
	p.queue = nil
	p.t.rt.lanes.leave(p.extra, false)
	p.extra = 0
}

// take waits for the next bytes to hash; a chunk without a buffer is the end.
func (p *pipe) take(ctx context.Context) (chunk, error) {
	for {
		if ctx.Err() != nil { // while there is something to hash, nothing else looks
			return chunk{}, context.Cause(ctx)
		}
		p.mu.Lock()
		if len(p.queue) > 0 {
			c := p.queue[0]
			p.queue[0] = chunk{}
			p.queue = p.queue[1:]
			p.mu.Unlock()
			return c, nil
		}
		s, err := spans.Span{Off: p.mark, End: p.written.After(p.mark)}, p.err
		p.mu.Unlock()
		switch {
		case err != nil:
			return chunk{}, err
		case s.End > s.Off:
			return p.readBack(ctx, s)
		case s.Off == p.t.desc.Size:
			return chunk{}, nil
		}
		if err := p.starve(ctx); err != nil {
			return chunk{}, err
		}
	}
}

// readBack reads what is in the ingest but no more in memory. The mark stays
// where it is until there is a buffer: past it, a connection would queue its
// buffers for a hash that waits for one.
func (p *pipe) readBack(ctx context.Context, s spans.Span) (chunk, error) {
	buf, err := p.t.rt.pool.get(ctx)
	if err != nil {
		return chunk{}, err
	}
	s.End = min(s.End, s.Off+bufferSize)
	p.mu.Lock()
	p.mark = s.End
	p.mu.Unlock()
	buf = buf[:s.End-s.Off]
	if err := p.t.readAt(buf, s.Off); err != nil {
		p.t.rt.pool.put(buf)
		return chunk{}, err
	}
	return chunk{buf, s.Off}, nil
}

// starve waits until there may be more to hash.
func (p *pipe) starve(ctx context.Context) error {
	began := time.Now()
	tick := time.NewTimer(laneWindow)
	defer tick.Stop()
	select {
	case <-p.wake:
	case <-tick.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if p.t.rt.lanes.wait(time.Since(began)) {
		p.widen(ctx)
	}
	return nil
}

// widen uses a free lane: for a blob that waits for one, or else for this one.
func (p *pipe) widen(ctx context.Context) {
	if p.t.rt.flights.widen() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.live) == 0 || p.extra+1 >= p.t.rt.ranges || !p.t.rt.lanes.take(false) {
		return
	}
	if !p.add(ctx) {
		p.t.rt.lanes.leave(1, false)
	}
}

// wrote says that a connection has written a buffer, which is the pipe's from
// now on.
func (p *pipe) wrote(c *conn, buf []byte) {
	n := int64(len(buf))
	p.t.f.got.Add(n)
	p.mu.Lock()
	p.written = p.written.Add(spans.Span{Off: c.Off, End: c.Off + n})
	queued := c.Off == p.mark
	if queued {
		p.queue = append(p.queue, chunk{buf, c.Off})
		p.mark += n
	}
	c.Off += n
	first := !c.moved
	c.moved = true
	p.mu.Unlock()
	p.t.rt.lanes.moved(n, first)
	if !queued {
		p.t.rt.pool.put(buf)
	}
	signal(p.wake)
}

// signal wakes the one goroutine that waits for ch, or the next that will.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
