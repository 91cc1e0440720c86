package fetch

import (
	"context"
	"hash"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/pullkit/pullkit/internal/spans"
	"github.com/pullkit/pullkit/puller/content"
)

const (
	// partSize is how many bytes a connection is asked for at a time, once a blob is
	// fetched in parts. It is large enough that a round trip between two parts matters
	// little, and small enough that the hash, which needs the bytes in order, is never
	// far behind.
	partSize    = 8 << 20
	minPartSize = 4 << 20
	// firstPart is what a connection that was added is asked for first; each time after
	// that it is asked for twice as much. It is small because bytes that were sent and
	// not yet read are lost when the process dies.
	firstPart = 1 << 20
	// queueLength is how many buffers wait between a connection and the hash, including
	// the one that is being written. That is enough to keep both going while the other
	// one does something else. Eight bring no measurable gain; with four, the connection
	// and the hash sometimes wait for each other.
	queueLength = 6
)

// A largeFetch fetches one large blob. Connections write parts of it to the ingest. The
// goroutine that made the largeFetch hashes them in order. Bytes that come over the
// connection at the mark are handed over in memory; bytes that other connections bring
// are read back, from the page cache, when the mark reaches them. So memory does not
// depend on how far ahead connections are.
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
	noMore     bool  // no connection may be added
	retried    bool  // the one try more that retry allows was used
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
	l := &largeFetch{attempt: a, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), noMore: a.whole}
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
	c := newConn(ctx, l.unassigned[0])
	start, err := l.openPart(c, false)
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
// moves the mark only when it has a buffer. Moved earlier, the mark could reach a
// connection, which would then put all buffers into the queue of a hash that waits for
// one.
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
	l.hashing.write(h, buf)
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

// addConn opens one connection more, which the budget has granted. It fetches missing
// bytes that no connection fetches. If there are no such bytes, it takes over a part of
// what the connection with the most left has yet to fetch. The lock is held.
func (l *largeFetch) addConn(ctx context.Context) bool {
	var part spans.Span
	var from *conn
	if len(l.unassigned) > 0 {
		l.inParts = true
		part = l.takeUnassigned(firstPart)
	} else {
		for _, c := range l.active {
			if from == nil || c.unreserved() > from.unreserved() {
				from = c
			}
		}
		if from == nil {
			return false
		}
		part = spans.Span{Off: from.reserved + l.budget.headStart(), End: from.part.End}
		if part.Len() < minPartSize {
			return false
		}
		part.End = part.Off + min(l.partLength(part, firstPart), part.Len())
	}
	c := newConn(ctx, part)
	c.reserved, c.limit, c.from = part.Off, firstPart, from
	l.config.Log.Debug("connection added", "digest", l.Desc.Digest, "connections", len(l.active)+1, "at", part.Off)
	l.budget.setOpening(true)
	l.extra++
	l.starting = append(l.starting, c)
	l.conns.Go(func() { l.start(c) })
	return true
}

// takeUnassigned takes the first of the missing bytes that no connection fetches: all of
// them up to the next byte that is there, or a part if the blob is fetched in parts. The
// lock is held.
func (l *largeFetch) takeUnassigned(limit int64) spans.Span {
	part := l.unassigned[0]
	if n := l.partLength(part, limit); l.inParts && n < part.Len() {
		part.End = part.Off + n
		l.unassigned[0].Off = part.End
	} else {
		l.unassigned = l.unassigned[1:]
	}
	return part
}

// partLength returns how many of the missing bytes one connection is given, at most
// limit. Parts are smaller towards the end of the blob, so that all connections end at
// about the same time.
func (l *largeFetch) partLength(missing spans.Span, limit int64) int64 {
	return min(limit, max(minPartSize, missing.Len()/int64(len(l.active)+1)))
}

// start opens c and makes it active, unless the server does not serve parts or the bytes
// have already come over another connection.
func (l *largeFetch) start(c *conn) {
	_, err := l.openPart(c, true)
	if err != nil && l.retry(c, err) && l.nextPart(c) {
		_, err = l.openPart(c, true)
	}
	l.mu.Lock()
	l.starting = slices.DeleteFunc(l.starting, func(d *conn) bool { return d == c })
	if err == nil && l.takeOver(c) {
		l.active = append(l.active, c)
		l.mu.Unlock()
		l.serve(c)
		return
	}
	l.budget.setOpening(false)
	l.releaseExtra()
	if err != nil {
		l.noMore = true
	}
	if c.from == nil {
		l.unassigned = l.unassigned.Add(c.part)
		if len(l.active) == 0 && l.err == nil {
			l.err = err
			signal(l.wake)
		}
	}
	l.mu.Unlock()
	if err == nil {
		_ = c.body.Close()
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
	l.inParts = true
	return true
}

// serve fetches c's part, and then others as long as bytes are missing.
func (l *largeFetch) serve(c *conn) {
	defer c.cancel()
	for {
		err := l.stream(c)
		_ = c.body.Close() // its needed bytes were read
		if err == nil && l.giveWay(c) {
			return
		}
		if (err == nil || l.retry(c, err)) && l.nextPart(c) {
			_, err = l.openPart(c, true)
			if err == nil {
				continue
			}
		}
		l.ended(c, err)
		return
	}
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
	at := c.part.Off
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

// reserve returns how many bytes c reads next, from at on. If c is at the mark, it waits
// until the queue has room for them.
func (l *largeFetch) reserve(c *conn, at int64) (int, error) {
	for {
		l.mu.Lock()
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

// retry reports whether c, which failed, is used for one try more. It is used if the blob
// was fetched in parts and all other connections have ended, because there may have been
// more connections than the server allows. This happens once for a blob.
func (l *largeFetch) retry(c *conn, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.panicked.Load() != nil || !l.inParts || l.retried || l.err != nil || c.from != nil || len(l.active)+len(l.starting) > 1 || c.ctx.Err() != nil {
		return false
	}
	switch content.ReasonOf(err) {
	case content.ErrRateLimited, content.ErrUnavailable, content.ErrNetwork, content.ErrTimeout, content.ErrStatus, "":
		l.retried, l.noMore = true, true
		l.unassigned = l.unassigned.Add(c.part)
		return true
	}
	return false
}

// nextPart gives c something to fetch, if anything is left.
func (l *largeFetch) nextPart(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unassigned) == 0 || l.err != nil {
		return false
	}
	c.limit = min(2*c.limit, partSize)
	c.part = l.takeUnassigned(c.limit)
	c.reserved = c.part.Off
	return true
}

// ended removes c, which failed with err or found nothing more to fetch. The rest of its
// part is left to the other connections. If there are no others, the blob has failed.
func (l *largeFetch) ended(c *conn, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(c)
	if err == nil {
		return
	}
	l.noMore = true
	l.unassigned = l.unassigned.Add(c.part)
	if reason := content.ReasonOf(err); len(l.active) == 0 || reason == content.ErrStore || reason == content.ErrSizeMismatch {
		if l.err == nil {
			l.err = err
		}
		signal(l.wake)
		return
	}
	l.config.Log.Debug("connection given up, others go on", "digest", l.Desc.Digest, "error", err)
}

// giveWay ends c between two parts, if another large blob has no connection and this blob
// has other connections. Each blob gets its first connection before another blob gets a
// second one.
func (l *largeFetch) giveWay(c *conn) bool {
	if !l.config.Queue.Waiting() {
		return false
	}
	l.mu.Lock()
	spare := l.extra > 0 && len(l.active) > 1
	if spare {
		l.remove(c)
	}
	l.mu.Unlock()
	if spare {
		l.config.Queue.Next()
	}
	return spare
}

// remove takes c out of the active connections. The lock is held.
func (l *largeFetch) remove(c *conn) {
	l.active = slices.DeleteFunc(l.active, func(d *conn) bool { return d == c })
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

// wrote records that c has written buf, and puts buf into the queue or back into the
// pool. The caller must not use buf after that.
func (l *largeFetch) wrote(c *conn, buf []byte) {
	n := int64(len(buf))
	l.Progress.Got.Add(n)
	l.mu.Lock()
	at := c.part.Off
	l.written = l.written.Add(spans.Span{Off: at, End: at + n})
	queued := at == l.mark
	if queued {
		l.queue = append(l.queue, chunk{buf, at})
		l.mark += n
	}
	c.part.Off += n
	first := !c.delivered
	c.delivered = true
	l.mu.Unlock()
	l.budget.received(n, first)
	if !queued {
		l.pool.put(buf)
	}
	signal(l.wake)
}

// A conn fetches one part of a large blob after another. It counts as one connection to
// the server, although the Source may use several in turn. Except for bodyEnd, body, ctx
// and cancel, its fields are guarded by the lock of the largeFetch.
type conn struct {
	part      spans.Span // what is left of its part; the end may come nearer
	reserved  int64      // up to where it reads now
	limit     int64      // how much it may be asked for at a time
	delivered bool       // it has brought bytes
	from      *conn      // the conn whose bytes it takes over; nil after that
	bodyEnd   int64      // where the body ends
	body      io.ReadCloser
	ctx       context.Context // of its requests
	cancel    context.CancelFunc
}

func newConn(ctx context.Context, part spans.Span) *conn {
	c := &conn{part: part, limit: partSize}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// unreserved returns how many bytes another connection can take over.
func (c *conn) unreserved() int64 { return c.part.End - c.reserved }

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

// A writer writes what a connection has read, one buffer at a time. If processors are
// free, the connection reads the next buffer during the write.
type writer struct {
	fetch *largeFetch
	conn  *conn
	done  chan error // of the write under way
	busy  bool       // a write is under way
}

// write writes buf, or begins to write it. The caller must not use buf after that. The
// error may be that of the previous write.
func (w *writer) write(buf []byte, off int64) error {
	if err := w.wait(); err != nil || len(buf) == 0 {
		w.fetch.pool.put(buf)
		return err
	}
	readOn := w.fetch.budget.writeBegins()
	if !readOn {
		return w.writeNow(buf, off, readOn)
	}
	if w.done == nil {
		w.done = make(chan error, 1)
	}
	w.busy = true
	go func() {
		err := w.writeNow(buf, off, readOn)
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

func (w *writer) writeNow(buf []byte, off int64, readOn bool) error {
	err := w.fetch.writeAt(buf, off)
	w.fetch.budget.writeEnds(readOn)
	if err != nil {
		w.fetch.pool.put(buf)
		return err
	}
	w.fetch.wrote(w.conn, buf)
	return nil
}

// signal wakes the goroutine that waits for ch. If none waits, the next wait for ch
// returns at once.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
