package strictjson

import (
	"errors"
	"fmt"
	"strings"
)

// A Rule names a rule that a document breaks.
type Rule string

// The rules.
const (
	Syntax    Rule = "bad JSON"
	Type      Rule = "wrong type"
	Duplicate Rule = "duplicate key"
	Case      Rule = "key in another case"
	Trailing  Rule = "data after the document"
	Depth     Rule = "nested too deeply"
	Size      Rule = "too large"
)

// An Error says which rule a document breaks, and where.
type Error struct {
	Rule   Rule
	Path   string // of the value, such as manifests[3].digest; * replaces a key that is data
	Offset int    // bytes from the start of the document
	Detail string // more about the error, or "". It quotes nothing of the document except known keys
}

// maxPath is the number of bytes of a path that an error's text shows.
const maxPath = 120

func (e *Error) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path[:min(len(e.Path), maxPath)])
		if len(e.Path) > maxPath {
			b.WriteString("...")
		}
		b.WriteString(": ")
	}
	b.WriteString(string(e.Rule))
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	fmt.Fprintf(&b, " at byte %d", e.Offset)
	return b.String()
}

// within adds step to the front of the path of an error about a value inside another value.
func within(step string, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case e.Path == "" || e.Path[0] == '[':
		e.Path = step + e.Path
	default:
		e.Path = step + "." + e.Path
	}
	return err
}

// Fail returns an error of rule Type at the reader's position, for values that are
// well-formed JSON but not what the caller needs. The detail should not quote the value.
func (r *Reader) Fail(detail string) error {
	return &Error{Rule: Type, Offset: r.pos, Detail: detail}
}

func (r *Reader) fail(rule Rule, detail string) error {
	return &Error{Rule: rule, Offset: r.pos, Detail: detail}
}
