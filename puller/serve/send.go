package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
)

// send sends content to the client. If it returns an error, nothing was sent, and the
// caller answers the request.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, f found) error {
	body, err := h.open(r, f)
	if err != nil {
		return err
	}
	defer body.Close()
	control := http.NewResponseController(w)
	s := &sender{ResponseWriter: w, control: control, stall: h.stall}
	if r.Method == http.MethodGet {
		s.lane = h.lanes.enter(func() { _ = control.SetWriteDeadline(time.Now()) })
		if s.lane == nil {
			return errBusy
		}
		defer s.lane.leave()
	}
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	if !f.target.blob {
		header.Set("Content-Type", f.desc.MediaType)
	}
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Docker-Content-Digest", string(f.desc.Digest))
	header.Set("Etag", `"`+string(f.desc.Digest)+`"`)
	switch {
	case !f.public:
		header.Set("Cache-Control", "private") // a cache would not ask Config.Allow
	case f.target.digest != "":
		header.Set("Cache-Control", "max-age=31536000, immutable")
	default:
		header.Set("Cache-Control", "no-cache") // a tag can be moved
	}
	_ = s.begin() // sets the deadline also for an answer without a body; s keeps the error
	http.ServeContent(s, r, "", time.Time{}, body)
	if err := s.failure(r); err != nil {
		h.log.InfoContext(r.Context(), "cut", "path", shown(r.URL.Path), "client", r.RemoteAddr, "sent", s.sent, "reason", redact.Text(err.Error()))
		panic(http.ErrAbortHandler) // so that the client sees that the answer is not complete
	}
	return nil
}

// open opens the content that was found.
func (h *Handler) open(r *http.Request, f found) (*body, error) {
	if !f.target.blob {
		return &body{src: io.NopCloser(bytes.NewReader(f.data)), size: int64(len(f.data))}, nil
	}
	src, err := h.store.Open(r.Context(), f.desc)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, f.target.notFound(err)
	}
	if err != nil {
		return nil, err
	}
	return &body{src: src, size: f.desc.Size}, nil
}

// A body is the content of an answer, as the io.ReadSeeker that http.ServeContent needs.
// Its size is known, and no byte is read before the first byte is sent.
type body struct {
	src  io.ReadCloser
	size int64
	at   int64 // the offset of the next Read
	read int64 // the offset of src
}

func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	b.at = offset
	return offset, nil
}

// source returns the Store's reader at the offset of the next Read.
func (b *body) source() (io.Reader, error) {
	if b.read == b.at {
		return b.src, nil
	}
	if s, ok := b.src.(io.Seeker); ok {
		if _, err := s.Seek(b.at, io.SeekStart); err != nil {
			return nil, err
		}
	} else if b.at < b.read {
		return nil, errors.New("the reader of the Store cannot seek, and bytes before its offset are needed")
	} else if _, err := io.CopyN(io.Discard, b.src, b.at-b.read); err != nil {
		return nil, err
	}
	b.read = b.at
	return b.src, nil
}

// moved notes that n bytes were read from the source.
func (b *body) moved(n int64) {
	b.at += n
	b.read = b.at
}

func (b *body) Read(p []byte) (int, error) {
	src, err := b.source()
	if err != nil {
		return 0, err
	}
	n, err := src.Read(p)
	b.moved(int64(n))
	return n, err
}

func (b *body) Close() error { return b.src.Close() }

// A sender sends an answer in chunks. Each chunk has its own deadline. So the time for a
// large blob has no limit as long as the client reads.
type sender struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	lane    *lane // nil if no body is sent
	status  int
	sent    int64
	err     error
}

var errSlow = errors.New("the client reads too slowly, and another client needs its place")

func (s *sender) WriteHeader(status int) {
	if s.status == 0 && status >= 200 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

// begin sets the deadline of the next chunk.
func (s *sender) begin() error {
	if s.err == nil && s.lane != nil && !s.lane.progress() {
		s.err = errSlow
	}
	if s.err == nil {
		if err := s.control.SetWriteDeadline(time.Now().Add(s.stall)); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			s.err = err
		}
	}
	return s.err
}

func (s *sender) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if err := s.begin(); err != nil {
			return n, err
		}
		m, err := s.ResponseWriter.Write(p[:min(len(p), chunk)])
		n += m
		s.sent += int64(m)
		if err != nil {
			s.err = err
			return n, err
		}
		p = p[m:]
	}
	return n, nil
}

// ReadFrom sends the bytes of a reader. It passes a file to the ResponseWriter as it is,
// because the ReadFrom of the ResponseWriter then lets the system copy the bytes
// (sendfile).
func (s *sender) ReadFrom(src io.Reader) (total int64, err error) {
	limit := int64(math.MaxInt64)
	if l, ok := src.(*io.LimitedReader); ok {
		src, limit = l.R, l.N
		defer func() { l.N -= total }()
	}
	b, _ := src.(*body)
	if b != nil {
		if src, err = b.source(); err != nil {
			s.err = err
			return 0, err
		}
	}
	for total < limit {
		if err := s.begin(); err != nil {
			return total, err
		}
		n, err := io.Copy(s.ResponseWriter, &io.LimitedReader{R: src, N: min(limit-total, chunk)})
		total += n
		s.sent += n
		if b != nil {
			b.moved(n)
		}
		if err != nil {
			s.err = err
			return total, err
		}
		if n == 0 {
			break
		}
	}
	return total, nil
}

// failure returns the reason why an answer is not complete; nil if it is complete.
func (s *sender) failure(r *http.Request) error {
	if s.err != nil || r.Method == http.MethodHead {
		return s.err
	}
	if s.status != http.StatusOK && s.status != http.StatusPartialContent {
		return nil
	}
	announced, err := strconv.ParseInt(s.Header().Get("Content-Length"), 10, 64)
	if err == nil && s.sent < announced {
		return fmt.Errorf("the stored content has only %d of the %d bytes", s.sent, announced)
	}
	return nil
}
