package strictjson

import "errors"

// MaxDepth is how many levels encoding/json lets a document nest.
const MaxDepth = 10_000

// The kinds of values, with the words that errors use for them.
const (
	KindObject  = "object"
	KindArray   = "array"
	KindString  = "string"
	KindNumber  = "number"
	KindBoolean = "boolean"
	KindNull    = "null"
)

// A Member is one member of an object: its key, and the bytes of its value.
type Member struct {
	Key   string
	Value []byte // a part of the document, not a copy
}

// Valid reports whether data is one JSON value, like json.Valid.
func Valid(data []byte) bool { return Check(data) == nil }

// Check returns an [*Error] that says why data is not one JSON value, or nil if it is one.
func Check(data []byte) error { return Decode(data, Limits{Depth: MaxDepth}, (*Reader).Skip) }

// Repeated returns the offset of the first key in a valid JSON value that its object has
// for the second time. It returns -1 if there is no such key.
func Repeated(data []byte) int {
	var twice *Error
	err := Decode(data, Limits{Depth: MaxDepth}, (*Reader).distinct)
	if errors.As(err, &twice) && twice.Rule == Duplicate {
		return twice.Offset
	}
	return -1
}

// distinct reads any value and refuses objects that have a key twice.
func (r *Reader) distinct() error {
	r.space()
	switch r.kind() {
	case '{':
		seen := map[string]bool{}
		return r.object(func(raw []byte, escaped bool, start int) error {
			key := text(raw, escaped)
			if seen[key] {
				return &Error{Rule: Duplicate, Offset: start}
			}
			seen[key] = true
			r.space()
			return r.distinct()
		})
	case '[':
		return r.Array(func(int) error { return r.distinct() })
	}
	return r.Skip()
}

// Members returns the members of an object whose keys are data, in their order. If the
// object has a key twice, it returns both members. It returns nil for null. The caller
// reads the value of a member with another call.
func Members(object []byte) ([]Member, error) {
	var members []Member
	err := Decode(object, Limits{Depth: MaxDepth}, func(r *Reader) error {
		return r.Members(func(key string) error {
			value, err := r.Raw()
			members = append(members, Member{key, value})
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return members, nil
}

// Elements returns the bytes of each element of an array. It returns nil for null.
func Elements(array []byte) ([][]byte, error) {
	var elements [][]byte
	err := Decode(array, Limits{Depth: MaxDepth}, func(r *Reader) error {
		return r.Array(func(int) error {
			value, err := r.Raw()
			elements = append(elements, value)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return elements, nil
}

// String reads a value that is a string. It returns "" for null.
func String(value []byte) (s string, err error) {
	err = Decode(value, Limits{}, func(r *Reader) error {
		s, err = r.String()
		return err
	})
	return s, err
}

// KindOf returns the kind of a value by its first byte. It returns KindNull for an empty
// value.
func KindOf(value []byte) string {
	r := &Reader{data: value}
	r.space()
	switch r.kind() {
	case '{':
		return KindObject
	case '[':
		return KindArray
	case '"':
		return KindString
	case 't', 'f':
		return KindBoolean
	case 'l', 0:
		return KindNull
	}
	return KindNumber
}

// Describe returns the kind of a value with its article, for errors: "an object", "a string".
func Describe(value []byte) string {
	kind := KindOf(value)
	if kind == KindObject || kind == KindArray {
		return "an " + kind
	}
	return "a " + kind
}
