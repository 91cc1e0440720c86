package fetch

import (
	"context"
	"hash"
	"slices"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
)

// queueLength is how many buffers wait between a connection and the hash, including the
// one that is being written. That is enough to keep both going while the other one does
// something else. Eight bring no measurable gain; with four, the connection and the hash
// sometimes wait for each other.
const queueLength = 6

// A largeFetch fetches one large blob. Connections write parts of it to the ingest. The
// goroutine that made the largeFetch hashes them in order. Bytes that come over the
// connection at the mark are handed over in memory; bytes that other connections bring
// are read back, from the page cache, when the mark reaches them. So memory does not
// depend on how far ahead connections are. If the ingest verifies the blob itself, the mark
// only passes over what is written.
type largeFetch struct {
	*attempt
	wake  chan struct{} // there may be more to hash
	room  chan struct{} // there may be room in the queue
	conns sync.WaitGroup

	mu         sync.Mutex
	written    spans.Set // bytes that are in the ingest
	unassigned spans.Set // missing bytes that no connection fetches
	active     []*conn   // connections that bring bytes
	starting   []*conn   // connections that were added and are not active yet
	queue      []chunk
	mark       int64 // all bytes before it were put into the queue or read back
	inParts    bool  // the blob is fetched in parts
	noParts    bool  // what is missing is not divided any further
	fast       bool  // its first connection was at least a quarter as fast as the hash
	noMore     bool  // no connection may be added
	retried    bool  // the further try that retry allows was used
	givingWay  bool  // a connection ends for another blob
	extra      int   // connections of the budget beyond the blob's first one
	err        error // why the blob cannot be fetched
}

// A chunk is a buffer that is to be hashed.
type chunk struct {
	buf []byte
	off int64
}

// fillLarge returns when the whole blob is written and hashed. None of its goroutines
// runs then.
func (a *attempt) fillLarge(ctx context.Context, h hash.Hash) error {
	l := &largeFetch{attempt: a, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), noMore: a.whole || a.ordered}
	ctx, cancel := context.WithCancel(ctx)
	defer l.end()
	defer cancel()
	if err := l.begin(ctx); err != nil {
		return err
	}
	for {
		c, err := l.next(ctx)
		if err != nil {
			return err
		}
		if c.buf == nil {
			break
		}
		l.hash(h, c.buf)
	}
	l.cancelStarting()
	// The end of a body is where its Source reports that it has more bytes.
	l.conns.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// begin opens the first connection, if bytes are missing.
func (l *largeFetch) begin(ctx context.Context) error {
	size := l.Desc.Size
	l.written = slices.Clone(l.kept)
	for gap := l.written.Gap(0, size); gap.Len() > 0; gap = l.written.Gap(gap.End, size) {
		l.unassigned = append(l.unassigned, gap)
	}
	if len(l.unassigned) == 0 {
		return nil
	}
	c := newConn(ctx, l.unassigned[0], 0)
	start, err := l.openPart(c, l.ordered)
	if err != nil {
		return err
	}
	l.unassigned = l.unassigned[1:]
	if start != c.part.Off { // the server sends the whole blob
		l.forgetKept()
		c.part, c.bodyEnd = spans.Span{Off: 0, End: size}, size
		l.written, l.unassigned, l.noMore = nil, nil, true
	}
	c.reserved = c.part.Off
	c.speed = newSpeed(0) // the first answer may take long, for example because of a token
	l.active = []*conn{c}
	l.conns.Go(func() { l.serve(c) })
	return nil
}

// end waits for the connections, whose context has ended, and gives back all that the
// largeFetch holds.
func (l *largeFetch) end() {
	l.conns.Wait()
	for _, c := range l.queue {
		l.pool.put(c.buf)
	}
	l.queue = nil
	l.budget.release(l.extra)
	l.extra = 0
}

// next waits for the next bytes to hash. A chunk without a buffer is the end.
func (l *largeFetch) next(ctx context.Context) (chunk, error) {
	for {
		if ctx.Err() != nil { // not checked elsewhere while there are bytes to hash
			return chunk{}, context.Cause(ctx)
		}
		l.mu.Lock()
		if len(l.queue) > 0 {
			c := l.queue[0]
			l.queue[0] = chunk{}
			l.queue = l.queue[1:]
			l.mu.Unlock()
			return c, nil
		}
		ready, err := spans.Span{Off: l.mark, End: l.written.After(l.mark)}, l.err
		if l.verifies {
			l.mark, ready.Off = ready.End, ready.End
		}
		l.mu.Unlock()
		switch {
		case err != nil:
			return chunk{}, err
		case ready.Len() > 0:
			return l.readBack(ctx, ready)
		case ready.Off == l.Desc.Size:
			return chunk{}, nil
		}
		if err := l.wait(ctx); err != nil {
			return chunk{}, err
		}
	}
}

// readBack reads bytes at the mark that are in the ingest and no longer in memory. It
// moves the mark only when it has a buffer. If it moved the mark earlier, the mark could
// reach a connection. That connection could put all buffers into the queue while the hash
// waits for a buffer.
func (l *largeFetch) readBack(ctx context.Context, ready spans.Span) (chunk, error) {
	buf, err := l.pool.get(ctx)
	if err != nil {
		return chunk{}, err
	}
	ready.End = min(ready.End, ready.Off+bufferSize)
	l.mu.Lock()
	l.mark = ready.End
	l.mu.Unlock()
	buf = buf[:ready.Len()]
	if err := l.readAt(buf, ready.Off); err != nil {
		l.pool.put(buf)
		return chunk{}, err
	}
	return chunk{buf, ready.Off}, nil
}

// hash hashes a buffer and gives it back.
func (l *largeFetch) hash(h hash.Hash, buf []byte) {
	defer l.pool.put(buf)
	l.attempt.hash(h, buf)
	signal(l.room)
}

// wait waits until there may be more to hash. If the budget says that the hashes wait
// too long, a connection is added.
func (l *largeFetch) wait(ctx context.Context) error {
	began := time.Now()
	timer := time.NewTimer(window)
	defer timer.Stop()
	select {
	case <-l.wake:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if l.budget.waited(time.Since(began)) {
		l.useFreeConn(ctx)
	}
	return nil
}

// useFreeConn uses a free connection for a blob that waits for its first one, or else
// for this blob.
func (l *largeFetch) useFreeConn(ctx context.Context) {
	if l.config.Queue.Next() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.noMore || len(l.active) == 0 || l.extra+1 >= l.config.MaxConnsPerBlob || !l.budget.acquire() {
		return
	}
	if !l.addConn(ctx) {
		l.budget.release(1)
	}
}

// addConn opens one more connection, which the budget has granted. The connection fetches
// missing bytes that no connection fetches, or takes over a part of what another
// connection has yet to fetch. The lock is held.
func (l *largeFetch) addConn(ctx context.Context) bool {
	f := l.forecast(len(l.active) + len(l.starting) + 1)
	part, from := l.late(f, f.read, f.least(f.read)/2)
	switch {
	case from != nil:
		part.End = part.Off + f.part(part, f.read)
	case len(l.unassigned) > 0:
		l.inParts = true
		part = l.takeUnassigned(f, f.read)
	default:
		return false
	}
	c := newConn(ctx, part, f.read)
	c.from = from
	l.config.Log.Debug("connection added", "digest", l.Desc.Digest, "connections", len(l.active)+1, "at", part.Off, "bytes", part.Len())
	l.budget.setOpening(true)
	l.extra++
	l.starting = append(l.starting, c)
	l.conns.Go(func() { l.start(c) })
	return true
}

// start opens c and makes it active, unless the server does not serve parts or the bytes
// have already come over another connection. If no connection is active any more, c is the
// blob's only one, and fetches what is left.
func (l *largeFetch) start(c *conn) {
	_, err := l.openPart(c, true)
	l.mu.Lock()
	l.starting = slices.DeleteFunc(l.starting, func(d *conn) bool { return d == c })
	opened := err == nil && l.takeOver(c)
	if c.from != nil { // from's bytes are from's, or unassigned
		c.from, c.part.End = nil, c.part.Off
	}
	only := !opened && len(l.active) == 0 && (c.part.Len() > 0 || len(l.unassigned) > 0)
	if opened || only {
		l.inParts = true
		l.active = append(l.active, c)
	} else {
		l.budget.setOpening(false)
		l.releaseExtra()
		if err != nil {
			l.refused(err)
		}
		l.unassigned = l.unassigned.Add(c.part)
	}
	l.mu.Unlock()
	if !opened && err == nil {
		_ = c.body.Close()
	}
	if opened || only && l.openNext(c, err) {
		l.serve(c)
	}
	c.cancel()
}

// takeOver gives c the part of c.from's bytes for which c was opened, and makes the bytes
// after that part unassigned. It returns false if c.from has read too far by now. The
// lock is held.
func (l *largeFetch) takeOver(c *conn) bool {
	from := c.from
	if from == nil {
		return l.err == nil
	}
	if l.err != nil || !slices.Contains(l.active, from) || from.reserved > c.part.Off || from.part.End < c.part.End {
		return false
	}
	if c.part.End < from.part.End {
		l.unassigned = l.unassigned.Add(spans.Span{Off: c.part.End, End: from.part.End})
	}
	from.part.End = c.part.Off
	c.from = nil
	return true
}

// serve fetches c's part, and then others as long as bytes are missing.
func (l *largeFetch) serve(c *conn) {
	defer c.cancel()
	for {
		err := l.stream(c)
		_ = c.body.Close() // its needed bytes were read
		if err == nil && l.giveWay(c) || !l.openNext(c, err) {
			return
		}
	}
}

// openNext gives c another part and opens it, after c has fetched its part or has failed
// with err. It returns false if c has ended.
func (l *largeFetch) openNext(c *conn, err error) bool {
	for l.nextPart(c, err) {
		if _, err = l.openPart(c, true); err == nil {
			return true
		}
	}
	return false
}

// nextPart gives c something to fetch, after c has fetched its part or has failed with err.
// If c fetches nothing more, nextPart removes it. Both happen under one lock, because a
// connection that fails in between would leave its bytes to a connection that has ended.
func (l *largeFetch) nextPart(c *conn, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if (err != nil && !l.retry(c, err)) || len(l.unassigned) == 0 || l.err != nil {
		l.ended(c, err)
		return false
	}
	f, read := l.forecast(len(l.active)+len(l.starting)), c.perByte()
	if share, from := l.late(f, read, 2*f.least(read)); from != nil {
		from.part.End = share.Off
		c.assign(l.divide(f, share, read))
	} else {
		c.assign(l.takeUnassigned(f, read))
	}
	return true
}

// retry reports whether c, which failed, is used for one further try. It is used if the
// blob was fetched in parts and all other connections have ended, because there may have
// been more connections than the server allows. This happens once for a blob. The lock is
// held.
func (l *largeFetch) retry(c *conn, err error) bool {
	if l.panicked.Load() != nil || !l.inParts || l.retried || l.err != nil || len(l.active)+len(l.starting) > 1 || c.ctx.Err() != nil {
		return false
	}
	switch content.ReasonOf(err) {
	case content.ErrRateLimited, content.ErrUnavailable, content.ErrNetwork, content.ErrTimeout, content.ErrStatus, "":
		l.refused(err)
		l.retried, l.noParts = true, true
		l.unassigned = l.unassigned.Add(c.part)
		return true
	}
	return false
}

// refused notes that no connection may be added, because one has failed. If the host
// limits requests, the rest is not divided into parts any more. The lock is held.
func (l *largeFetch) refused(err error) {
	l.noMore = true
	switch content.ReasonOf(err) {
	case content.ErrRateLimited, content.ErrUnavailable:
		l.noParts = true
	}
}

// ended removes c, which failed with err or found nothing more to fetch. The rest of its
// part is left to the other connections, also to one that is being opened. If there are no
// others, the blob has failed. The lock is held.
func (l *largeFetch) ended(c *conn, err error) {
	l.remove(c)
	if err == nil {
		return
	}
	l.refused(err)
	l.unassigned = l.unassigned.Add(c.part)
	if reason := content.ReasonOf(err); len(l.active)+len(l.starting) == 0 || reason == content.ErrStore || reason == content.ErrSizeMismatch {
		if l.err == nil {
			l.err = err
		}
		signal(l.wake)
		return
	}
	l.config.Log.Debug("connection given up, others go on", "digest", l.Desc.Digest, "error", err)
}

// giveWay ends c, whose part has ended, if another large blob has no connection and this
// blob has other connections. Each blob gets its first connection before another blob gets
// a second one.
func (l *largeFetch) giveWay(c *conn) bool {
	l.mu.Lock()
	l.givingWay = false
	gives := l.canGiveWay() && l.config.Queue.Waiting()
	if gives {
		l.remove(c)
	}
	l.mu.Unlock()
	if gives {
		l.config.Queue.Next()
	}
	return gives
}

// canGiveWay reports whether the blob has more than one connection. The lock is held.
func (l *largeFetch) canGiveWay() bool { return l.extra > 0 && len(l.active) > 1 }

// remove takes c out of the active connections. The lock is held.
func (l *largeFetch) remove(c *conn) {
	l.active = slices.DeleteFunc(l.active, func(d *conn) bool { return d == c })
	l.givingWay = false
	l.releaseExtra()
	if !c.delivered {
		l.budget.setOpening(false)
	}
}

// releaseExtra gives a connection back to the budget, unless it is the blob's last one.
// The lock is held.
func (l *largeFetch) releaseExtra() {
	if l.extra > 0 {
		l.extra--
		l.budget.release(1)
	}
}

// cancelStarting ends requests for parts that are no longer needed.
func (l *largeFetch) cancelStarting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.starting {
		c.cancel()
	}
}

// signal wakes the goroutine that waits for ch. If none waits, the next wait for ch
// returns at once.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
