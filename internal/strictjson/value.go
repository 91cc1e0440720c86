package strictjson

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// Null goes past a null and reports true, or stays where it is.
func (r *Reader) Null() bool {
	r.space()
	return r.literal("null")
}

// String reads a string; null gives "". As in encoding/json, what is no UTF-8
// becomes U+FFFD.
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

// Bytes reads a string of base64 in the standard encoding; null gives nil.
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

// Int64 reads a whole number that is written without fraction and exponent; null gives 0.
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

// Bool reads true or false; null gives false.
func (r *Reader) Bool() (bool, error) {
	switch {
	case r.Null(), r.literal("false"):
		return false, nil
	case r.literal("true"):
		return true, nil
	}
	return false, r.unexpected("true or false")
}

// Raw reads any value and returns its bytes as written: a part of the document, not a copy.
func (r *Reader) Raw() ([]byte, error) {
	r.space()
	start := r.pos
	err := r.Skip()
	return r.data[start:r.pos:r.pos], err
}

// Skip reads any value and drops it. Its syntax is checked; keys may stand there twice.
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

// kind says what the value at the reader's place is by its first byte: the
// byte, n for a number, 0 for the end.
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

// number goes past a number of the grammar of RFC 8259.
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

// quoted goes past a string and returns what is between its quotes, and
// whether escapes are in there.
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

// escape goes past one escape of a string.
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

// text returns the string that raw, from quoted, stands for.
func text(raw []byte, escaped bool) string {
	if !escaped && utf8.Valid(raw) {
		return string(raw)
	}
	return unquote(raw)
}
