package rootfs

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
)

// chunkSize is how many bytes of a layer go from one goroutine to the next at a time.
const chunkSize = 256 << 10

// maxQueue is how many chunks of a layer wait in memory.
const maxQueue = 4

// A chunk is a part of a layer without its compression. It goes back to the pool chunks when
// all its users have released it.
type chunk struct {
	buf   []byte // with capacity chunkSize
	users atomic.Int32
}

var chunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, chunkSize)} }}

// newChunk returns a chunk of chunkSize bytes, on which release must be called users times.
func newChunk(users int32) *chunk {
	c := chunks.Get().(*chunk)
	c.buf = c.buf[:chunkSize]
	c.users.Store(users)
	return c
}

func (c *chunk) release() {
	if c.users.Add(-1) == 0 {
		chunks.Put(c)
	}
}

// spools is the state that all spools of an image share. All of them have one lock.
type spools struct {
	create func() (*os.File, error) // makes a file, whose name is already removed

	mu      sync.Mutex
	changed sync.Cond
	// starving says that the layer that is being applied waits for bytes. Only then do the
	// other layers write their bytes to files, because otherwise the processors are needed for
	// the layer that is being applied.
	starving bool
}

func newSpools(create func() (*os.File, error)) *spools {
	s := &spools{create: create}
	s.changed.L = &s.mu
	return s
}

// A spool passes a layer from the goroutine that decompresses it, the writer, to the goroutine
// that applies it, the reader. While the layer is being applied, the writer waits if the queue is
// full. Before that, the writer puts the chunks that do not fit into the queue into a file.
type spool struct {
	*spools
	queue   []*chunk // older than the bytes in the file
	file    *os.File
	written int64 // bytes written to the file
	read    int64 // bytes read from the file
	current bool  // the layer is being applied
	ended   error // io.EOF after the last chunk, or why there is not a last chunk
	left    bool  // the reader has left
}

// errLeft is returned to the writer of a spool whose reader has left.
var errLeft = io.ErrClosedPipe

// put adds a chunk, which belongs to the spool from then on. Only one goroutine calls put.
func (s *spool) put(c *chunk) error {
	s.mu.Lock()
	for {
		switch {
		case s.left:
			s.mu.Unlock()
			c.release()
			return errLeft
		case s.read == s.written && len(s.queue) < maxQueue:
			s.queue = append(s.queue, c)
			s.changed.Broadcast()
			s.mu.Unlock()
			return nil
		case s.current || !s.starving:
			s.changed.Wait()
			continue
		}
		break
	}
	file := s.file
	s.mu.Unlock()
	defer c.release()
	if file == nil {
		var err error
		if file, err = s.create(); err != nil {
			return err
		}
	}
	_, err := file.WriteAt(c.buf, s.written) // only this goroutine changes written
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file = file
	if err == nil {
		s.written += int64(len(c.buf))
	}
	s.changed.Broadcast()
	return err
}

// end says that the writer adds no more chunks. err is nil if the layer is complete.
func (s *spool) end(err error) {
	if err == nil {
		err = io.EOF
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
	s.changed.Broadcast()
}

// begin says that the layer is applied from now on.
func (s *spool) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.starving = true, false
	s.changed.Broadcast()
}

// get returns the next chunk, which the caller releases. The error is that of end.
func (s *spool) get() (*chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case len(s.queue) > 0:
			c := s.queue[0]
			s.queue[0] = nil
			s.queue = s.queue[1:]
			s.changed.Broadcast()
			return c, nil
		case s.read < s.written:
			return s.fromFile()
		case s.ended != nil:
			return nil, s.ended
		}
		s.starve(true)
		s.changed.Wait()
		s.starve(false)
	}
}

// starve sets starving. s.mu is held.
func (s *spools) starve(now bool) {
	if s.starving != now {
		s.starving = now
		s.changed.Broadcast()
	}
}

// fromFile returns the next chunk of the file. s.mu is held.
func (s *spool) fromFile() (*chunk, error) {
	c := newChunk(1)
	c.buf = c.buf[:min(chunkSize, s.written-s.read)]
	file, at := s.file, s.read
	s.mu.Unlock()
	_, err := file.ReadAt(c.buf, at)
	s.mu.Lock()
	if err != nil {
		c.release()
		return nil, err
	}
	s.read += int64(len(c.buf))
	s.changed.Broadcast()
	return c, nil
}

// leave frees the chunks in the queue. The reader calls it when it does not need more chunks.
// From then on put returns errLeft.
func (s *spool) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	for _, c := range s.queue {
		c.release()
	}
	s.queue = nil
	s.changed.Broadcast()
}

// close closes the file. The caller makes sure that the reader and the writer have ended.
func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}

// A spoolReader reads a spool as a stream.
type spoolReader struct {
	s    *spool
	c    *chunk
	rest []byte
	err  error // of the spool, once it has one
}

func (r *spoolReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.drop()
		if r.c, r.err = r.s.get(); r.err == nil {
			r.rest = r.c.buf
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// drop releases the chunk that was read.
func (r *spoolReader) drop() {
	if r.c != nil {
		r.c.release()
	}
	r.c, r.rest = nil, nil
}
