package strictjson

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// Null reads a null and returns true. At any other value it reads nothing and returns
// false.
func (r *Reader) Null() bool {
	r.space()
	return r.literal("null")
}

// String reads a string; null is read as "". Bytes that are not UTF-8 become U+FFFD, as in
// encoding/json.
func (r *Reader) String() (string, error) {
	if r.Null() {
		return "", nil
	}
	raw, escaped, err := r.quoted()
	if err != nil {
		return "", err
	}
	return text(raw, escaped), nil
}

// Bytes reads a string of base64 in the standard encoding; null is read as nil.
func (r *Reader) Bytes() ([]byte, error) {
	if r.Null() {
		return nil, nil
	}
	s, err := r.String()
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, r.Fail("want base64")
	}
	return b, nil
}

// Int64 reads a whole number without fraction and exponent; null is read as 0.
func (r *Reader) Int64() (int64, error) {
	if r.Null() {
		return 0, nil
	}
	start := r.pos
	if r.kind() != 'n' {
		return 0, r.unexpected("a number")
	}
	if err := r.number(); err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(r.data[start:r.pos]), 10, 64)
	if err != nil {
		return 0, &Error{Rule: Type, Offset: start, Detail: "want a whole number of 64 bits"}
	}
	return n, nil
}

// Bool reads true or false; null is read as false.
func (r *Reader) Bool() (bool, error) {
	switch {
	case r.Null(), r.literal("false"):
		return false, nil
	case r.literal("true"):
		return true, nil
	}
	return false, r.unexpected("true or false")
}

// Raw reads any value and returns its bytes. They are a part of the document, not a copy.
func (r *Reader) Raw() ([]byte, error) {
	r.space()
	start := r.pos
	err := r.Skip()
	return r.data[start:r.pos:r.pos], err
}

// Skip reads any value and ignores it. It checks the syntax; an object may have a key
// twice.
func (r *Reader) Skip() error {
	r.space()
	switch r.kind() {
	case '{':
		return r.object(func([]byte, bool, int) error { return r.Skip() })
	case '[':
		return r.Array(func(int) error { return r.Skip() })
	case '"':
		_, _, err := r.quoted()
		return err
	case 'n':
		return r.number()
	}
	if r.literal("null") || r.literal("true") || r.literal("false") {
		return nil
	}
	if r.kind() == 0 {
		return r.fail(Syntax, "the document ends early")
	}
	return r.fail(Syntax, "want a value")
}

// kind returns the kind of the value at the reader's position: n for a number, l for a null,
// 0 at the end of the document, and otherwise the first byte of the value.
func (r *Reader) kind() byte {
	if r.pos == len(r.data) {
		return 0
	}
	c := r.data[r.pos]
	if c == '-' || '0' <= c && c <= '9' {
		return 'n'
	}
	if c == 'n' {
		return 'l'
	}
	return c
}

func (r *Reader) unexpected(want string) error {
	rule, found := Type, "want "+want
	switch r.kind() {
	case 0:
		rule, found = Syntax, "the document ends early"
	case '{':
		found += ", found an object"
	case '[':
		found += ", found an array"
	case '"':
		found += ", found a string"
	case 'n':
		found += ", found a number"
	case 'l', 't', 'f':
	default:
		rule = Syntax
	}
	return r.fail(rule, found)
}

func (r *Reader) literal(word string) bool {
	if end := r.pos + len(word); end <= len(r.data) && string(r.data[r.pos:end]) == word {
		r.pos = end
		return true
	}
	return false
}

// number reads a number by the grammar of RFC 8259.
func (r *Reader) number() error {
	r.take('-')
	if !r.take('0') && !r.digits() {
		return r.fail(Syntax, "bad number")
	}
	if r.take('.') && !r.digits() {
		return r.fail(Syntax, "bad number")
	}
	if r.take('e') || r.take('E') {
		if !r.take('+') {
			r.take('-')
		}
		if !r.digits() {
			return r.fail(Syntax, "bad number")
		}
	}
	return nil
}

func (r *Reader) digits() bool {
	start := r.pos
	for r.pos < len(r.data) && '0' <= r.data[r.pos] && r.data[r.pos] <= '9' {
		r.pos++
	}
	return r.pos > start
}

// quoted reads a string, and returns the bytes between its quotes, and whether there are
// escapes in them.
func (r *Reader) quoted() (raw []byte, escaped bool, err error) {
	r.space()
	if !r.take('"') {
		return nil, false, r.unexpected("a string")
	}
	start := r.pos
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; {
		case c == '"':
			raw = r.data[start:r.pos]
			r.pos++
			return raw, escaped, nil
		case c == '\\':
			escaped = true
			if err := r.escape(); err != nil {
				return nil, false, err
			}
		case c < ' ':
			return nil, false, r.fail(Syntax, "control character in a string")
		default:
			r.pos++
		}
	}
	return nil, false, r.fail(Syntax, "the document ends early")
}

// escape reads one escape of a string.
func (r *Reader) escape() error {
	rest := r.data[r.pos+1:]
	if len(rest) == 0 {
		return r.fail(Syntax, "the document ends early")
	}
	switch rest[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		r.pos += 2
		return nil
	case 'u':
		if _, ok := hex4(rest[1:]); ok {
			r.pos += 6
			return nil
		}
	}
	return r.fail(Syntax, "bad escape in a string")
}

// text returns the string for the bytes that quoted has returned.
func text(raw []byte, escaped bool) string {
	if !escaped && utf8.Valid(raw) {
		return string(raw)
	}
	return unquote(raw)
}
