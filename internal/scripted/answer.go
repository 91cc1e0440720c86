package scripted

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer writes a rule's answer to the connection itself, because net/http would correct
// most of what is wrong with it.
func (s *Stage) answer(p Respond, w *loggingWriter, req *http.Request) {
	conn, _, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return
	}
	defer s.take(conn)()
	if !s.pause(time.Duration(p.DelayMS) * time.Millisecond) {
		return
	}
	if p.Drop {
		reset(conn)
		return
	}
	if p.Raw != "" {
		_, _ = io.WriteString(conn, s.Fill(p.Raw))
		return
	}
	head, body, err := s.compose(p, req)
	if err != nil {
		return
	}
	w.entry.setStatus(head.status)
	if head.write(conn) != nil || req.Method == http.MethodHead || head.status == 204 || head.status == 304 {
		return
	}
	if !s.send(p, conn, w.entry, body) {
		return
	}
	s.finish(p, conn)
}

// A head is the status and header of an answer.
type head struct {
	status int
	header map[string]string
}

func (h head) write(conn net.Conn) error {
	w := bufio.NewWriter(conn)
	fmt.Fprintf(w, "HTTP/1.1 %d %s\r\n", h.status, http.StatusText(h.status))
	for name, value := range h.header {
		for one := range strings.SplitSeq(value, "\x00") {
			fmt.Fprintf(w, "%s: %s\r\n", name, one)
		}
	}
	fmt.Fprint(w, "\r\n")
	return w.Flush()
}

// compose makes the whole answer. send cuts and slows it.
func (s *Stage) compose(p Respond, req *http.Request) (head, io.Reader, error) {
	data := []byte(s.Fill(p.Body))
	if p.BodyOf != "" {
		data = slices.Clone(s.names.objects[p.BodyOf].Data)
	}
	if p.FlipAt != nil && *p.FlipAt < int64(len(data)) {
		data[*p.FlipAt] ^= 1
	}
	h := head{cmp.Or(p.Status, 200), map[string]string{"Connection": "close"}}
	if from, to, ok := askedRange(req, len(data)); ok && p.Range != "" && p.Range != "ignore" {
		h.status = http.StatusPartialContent
		data, h.header["Content-Range"] = ranged(p.Range, data, from, to)
	}
	fill := repeated('A')
	if p.FillByte != "" {
		fill = repeated(p.FillByte[0])
	}
	tail := []byte(s.Fill(p.BodyTail))
	body := io.MultiReader(bytes.NewReader(data), io.LimitReader(fill, p.FillSize), bytes.NewReader(tail))
	length := int64(len(data)) + p.FillSize + int64(len(tail))
	if p.Gzip {
		packed, err := pack(data, fill, p.FillSize, tail)
		if err != nil {
			return head{}, nil, err
		}
		body, length = bytes.NewReader(packed), int64(len(packed))
		h.header["Content-Encoding"] = "gzip"
	}
	switch {
	case p.Chunked:
		h.header["Transfer-Encoding"] = "chunked"
	case p.NoLength:
	case p.Length != nil:
		h.header["Content-Length"] = strconv.FormatInt(*p.Length, 10)
	default:
		h.header["Content-Length"] = strconv.FormatInt(length, 10)
	}
	for name, value := range p.Headers {
		h.header[name] = s.Fill(value)
	}
	return h, body, nil
}

// pack gzips a body. The filling is packed as members of 1 MiB, of which RFC 1952 lets a
// stream have many. All of them are copies of the first, because packing a long filling
// would take most of the time of a test.
func pack(data []byte, fill io.Reader, fillSize int64, tail []byte) ([]byte, error) {
	const step = 1 << 20
	var packed bytes.Buffer
	member := func(to *bytes.Buffer, from io.Reader) error {
		z := gzip.NewWriter(to)
		if _, err := io.Copy(z, from); err != nil {
			return err
		}
		return z.Close()
	}
	if err := member(&packed, bytes.NewReader(data)); err != nil {
		return nil, err
	}
	if fillSize >= step {
		var one bytes.Buffer
		if err := member(&one, io.LimitReader(fill, step)); err != nil {
			return nil, err
		}
		for range fillSize / step {
			packed.Write(one.Bytes())
		}
	}
	rest := io.MultiReader(io.LimitReader(fill, fillSize%step), bytes.NewReader(tail))
	if err := member(&packed, rest); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// askedRange reads a Range header of the form bytes=N-[M]; to is M+1 or the end.
func askedRange(req *http.Request, size int) (from, to int, ok bool) {
	text, ok := strings.CutPrefix(req.Header.Get("Range"), "bytes=")
	first, last, dash := strings.Cut(text, "-")
	from, err := strconv.Atoi(first)
	if !ok || !dash || err != nil {
		return 0, 0, false
	}
	to = size
	if m, err := strconv.Atoi(last); err == nil {
		to = min(m+1, size)
	}
	from = min(max(from, 0), size)
	return from, max(from, to), true
}

// ranged returns the part of data that an answer of this kind sends, and its
// Content-Range. Only an honest answer ends where the range ends.
func ranged(how string, data []byte, from, to int) (part []byte, contentRange string) {
	size := len(data)
	part, contentRange = data[from:], fmt.Sprintf("bytes %d-%d/%d", from, size-1, size)
	switch how {
	case "honest":
		part, contentRange = data[from:to], fmt.Sprintf("bytes %d-%d/%d", from, to-1, size)
	case "wrong-start":
		part, contentRange = data[from/2:], fmt.Sprintf("bytes %d-%d/%d", from/2, size-1, size)
	case "wrong-data":
		part = data[from/2:][:size-from]
	case "short":
		part = part[:len(part)/2]
	case "beyond":
		part, contentRange = append(part, make([]byte, size)...), fmt.Sprintf("bytes %d-%d/%d", from, 2*size, 3*size)
	}
	return part, contentRange
}

// send writes the body as far as the rule says. It returns false if the client has closed
// the connection.
func (s *Stage) send(p Respond, conn net.Conn, entry *logEntry, body io.Reader) bool {
	for _, limit := range []*int64{p.CutAfter, p.StallAt} {
		if limit != nil {
			body = io.LimitReader(body, *limit)
		}
	}
	buf := make([]byte, cmp.Or(p.SlowBytes, 32<<10))
	for {
		n, err := io.ReadFull(body, buf)
		if n == 0 {
			return true
		}
		if p.Chunked {
			fmt.Fprintf(conn, "%x\r\n", n)
		}
		written, writeErr := conn.Write(buf[:n])
		entry.sent(written)
		if writeErr != nil {
			return false
		}
		if p.Chunked {
			fmt.Fprint(conn, "\r\n")
		}
		if p.SlowMS > 0 && !s.pause(time.Duration(p.SlowMS)*time.Millisecond) {
			return false
		}
		if err != nil {
			return true
		}
	}
}

// finish ends an answer after its body.
func (s *Stage) finish(p Respond, conn net.Conn) {
	switch {
	case p.StallAt != nil:
		s.hold(conn)
	case p.CutAfter != nil:
		if p.CutHow != "fin" {
			drain(conn) // a reset of a socket discards what was not sent yet
			reset(conn)
		}
	case p.Chunked:
		fmt.Fprint(conn, "0\r\n\r\n")
	}
}

// hold keeps a connection open until the client or the registry closes it.
func (s *Stage) hold(conn net.Conn) {
	_, _ = io.Copy(io.Discard, conn) // ends with an error in both cases
}

// pause waits for d. It returns false if the registry was closed before d was over.
func (s *Stage) pause(d time.Duration) bool {
	if d == 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.quit:
		return false
	}
}

// reset ends a connection as a crash does.
func reset(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = c.SetLinger(0) // without it the connection ends in an orderly way
	}
	_ = conn.Close()
}
