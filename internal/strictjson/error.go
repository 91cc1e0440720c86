package strictjson

import (
	"errors"
	"fmt"
	"strings"
)

// A Rule names what a document broke.
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

// An Error says which rule a document broke, and where.
type Error struct {
	Rule   Rule
	Path   string // of the value, as manifests[3].digest; a member of an object whose keys are data is a *
	Offset int    // bytes from the start of the document
	Detail string // "" or more about it; holds nothing of the document but known keys
}

// maxPath is how much of a path an error's text repeats, in bytes.
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

// within puts a step in front of the path of an error from below.
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

// Fail returns an error of rule Type at the reader's place, for values that are
// well-formed JSON but not what the caller wants. The detail should not quote
// the value.
func (r *Reader) Fail(detail string) error {
	return &Error{Rule: Type, Offset: r.pos, Detail: detail}
}

func (r *Reader) fail(rule Rule, detail string) error {
	return &Error{Rule: rule, Offset: r.pos, Detail: detail}
}
