package strictjson

import (
	"strconv"
	"strings"
)

// DefaultDepth is how many levels a document may nest if Limits.Depth is 0.
const DefaultDepth = 100

// Limits bound a document.
type Limits struct {
	Bytes int // of the whole document; 0 = no limit, because the caller has limited the data
	Depth int // of objects and arrays within each other; 0 = DefaultDepth
}

// A Reader reads one document from its start to its end. It may be used only while Decode
// runs, and not concurrently.
type Reader struct {
	data  []byte
	pos   int
	depth int // levels still allowed
}

// Decode calls read with a Reader at the start of the document's one value. Data behind that
// value is an error. A value that read does not read is checked and skipped. The error is an
// *Error, or that of read.
func Decode(data []byte, limits Limits, read func(*Reader) error) error {
	if limits.Depth == 0 {
		limits.Depth = DefaultDepth
	}
	r := &Reader{data: data, depth: limits.Depth}
	if limits.Bytes > 0 && len(data) > limits.Bytes {
		return r.fail(Size, strconv.Itoa(len(data))+" bytes, at most "+strconv.Itoa(limits.Bytes)+" are read")
	}
	if err := r.value(func() error { return read(r) }); err != nil {
		return err
	}
	r.space()
	if r.pos < len(r.data) {
		return r.fail(Trailing, "")
	}
	return nil
}

// Object reads an object of which the caller knows some members. It calls read for each
// known member of the object, in the document's order. Values that read does not read and
// unknown members are checked and skipped. A known key that the object has twice, or has in
// another case, is an error. So is a value that is not an object or null. For null Object
// does not call read.
//
// At most 64 keys can be known.
func (r *Reader) Object(known []string, read func(key string) error) error {
	var seen uint64
	return r.object(func(raw []byte, escaped bool, start int) error {
		i, err := match(known, raw, escaped, start)
		if err != nil {
			return err
		}
		if i < 0 {
			return r.Skip()
		}
		if seen&(1<<i) != 0 {
			return &Error{Rule: Duplicate, Path: known[i], Offset: start}
		}
		seen |= 1 << i
		if err := r.value(func() error { return read(known[i]) }); err != nil {
			return within(known[i], err)
		}
		return nil
	})
}

// match returns the index of a key in known, or -1 if the key is unknown. A key that
// differs from a known one only in case, as encoding/json compares keys, is an error.
func match(known []string, raw []byte, escaped bool, start int) (int, error) {
	if escaped {
		raw = []byte(unquote(raw))
	}
	for i, k := range known {
		if string(raw) == k {
			return i, nil
		}
	}
	for _, k := range known {
		// raw may be longer than k, because a letter that folds to an ASCII letter may have
		// more bytes.
		if len(raw) >= len(k) && strings.EqualFold(string(raw), k) {
			return -1, &Error{Rule: Case, Path: k, Offset: start}
		}
	}
	return -1, nil
}

// Members reads an object whose keys are data. It calls read for each member, in the
// document's order, also for a key that the object has twice. A value that read does not
// read is checked and skipped. A value that is not an object or null is an error. For null
// Members does not call read.
func (r *Reader) Members(read func(key string) error) error {
	return r.object(func(raw []byte, escaped bool, _ int) error {
		key := text(raw, escaped)
		if err := r.value(func() error { return read(key) }); err != nil {
			return within("*", err)
		}
		return nil
	})
}

// Strings reads an object of strings, such as annotations. A key that the object has twice
// is an error. Strings returns nil for null.
func (r *Reader) Strings() (map[string]string, error) {
	if r.Null() {
		return nil, nil
	}
	m := map[string]string{}
	err := r.object(func(raw []byte, escaped bool, start int) error {
		key := text(raw, escaped)
		if _, ok := m[key]; ok {
			return &Error{Rule: Duplicate, Path: "*", Offset: start}
		}
		s, err := r.String()
		if err != nil {
			return within("*", err)
		}
		m[key] = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Array reads an array. It calls read for each element, with the element's index. A value
// that read does not read is checked and skipped. A value that is not an array or null is
// an error. For null Array does not call read.
func (r *Reader) Array(read func(i int) error) error {
	if r.Null() {
		return nil
	}
	if err := r.open('[', "an array"); err != nil {
		return err
	}
	for i := 0; ; i++ {
		if done, err := r.next(i == 0, ']'); done || err != nil {
			return err
		}
		if err := r.value(func() error { return read(i) }); err != nil {
			return within("["+strconv.Itoa(i)+"]", err)
		}
	}
}

// object reads an object. It calls member after each key; member must read the value.
func (r *Reader) object(member func(key []byte, escaped bool, start int) error) error {
	if r.Null() {
		return nil
	}
	if err := r.open('{', "an object"); err != nil {
		return err
	}
	for first := true; ; first = false {
		if done, err := r.next(first, '}'); done || err != nil {
			return err
		}
		start := r.pos
		if r.kind() != '"' {
			return r.fail(Syntax, "want a key")
		}
		raw, escaped, err := r.quoted()
		if err != nil {
			return err
		}
		r.space()
		if !r.take(':') {
			return r.fail(Syntax, "want : after a key")
		}
		if err := member(raw, escaped, start); err != nil {
			return err
		}
	}
}

// value calls read for one value, and skips the value if read does not read it.
func (r *Reader) value(read func() error) error {
	r.space() // because read may skip space when it only looks at the kind of the value
	start := r.pos
	if err := read(); err != nil {
		return err
	}
	if r.pos == start {
		return r.Skip()
	}
	return nil
}

// open reads the opening bracket of a value.
func (r *Reader) open(bracket byte, want string) error {
	r.space()
	if !r.take(bracket) {
		return r.unexpected(want)
	}
	if r.depth--; r.depth < 0 {
		return r.fail(Depth, "")
	}
	return nil
}

// next moves to the next element, or reads the closing bracket and reports done.
func (r *Reader) next(first bool, bracket byte) (done bool, err error) {
	r.space()
	if r.take(bracket) {
		r.depth++
		return true, nil
	}
	if first {
		return false, nil
	}
	if !r.take(',') {
		return false, r.fail(Syntax, "want , or "+string(bracket))
	}
	r.space()
	return false, nil
}

func (r *Reader) space() {
	for r.pos < len(r.data) {
		switch r.data[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

func (r *Reader) take(c byte) bool {
	if r.pos < len(r.data) && r.data[r.pos] == c {
		r.pos++
		return true
	}
	return false
}
