package registry

import (
	"errors"
	"fmt"
	"strings"
)

// A byteRange is what a 206 answer says it holds: bytes first to last of total,
// which is unknownTotal where the server wrote "*".
type byteRange struct{ first, last, total int64 }

const unknownTotal = -1

// fits reports whether an answer with the range r goes on at byte off of a blob of
// size bytes. Where the total is unknown, the range must end within the blob; that
// the bytes are of the right blob is for its digest to say.
func (r byteRange) fits(off, size int64) bool {
	return r.first == off && r.last < size && (r.total == size || r.total == unknownTotal)
}

// parseContentRange reads a Content-Range header (RFC 9110, section 14.4).
func parseContentRange(v string) (byteRange, error) {
	if v == "" {
		return byteRange{}, errors.New("no Content-Range")
	}
	bad := fmt.Errorf("Content-Range %.60q cannot be read", v)
	unit, rest, ok := strings.Cut(v, " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return byteRange{}, bad
	}
	span, size, ok := strings.Cut(rest, "/")
	if !ok {
		return byteRange{}, bad
	}
	from, to, ok := strings.Cut(span, "-")
	if !ok {
		return byteRange{}, bad
	}
	var r byteRange
	for _, field := range []struct {
		text string
		to   *int64
	}{{from, &r.first}, {to, &r.last}, {size, &r.total}} {
		if field.to == &r.total && field.text == "*" {
			r.total = unknownTotal
			continue
		}
		if *field.to, ok = parseOffset(field.text); !ok {
			return byteRange{}, bad
		}
	}
	if r.first > r.last || r.total != unknownTotal && r.last >= r.total {
		return byteRange{}, bad
	}
	return r, nil
}

// parseOffset reads digits and nothing else, as far as an int64 holds them.
func parseOffset(s string) (n int64, ok bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' || n > (1<<63-1-int64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
