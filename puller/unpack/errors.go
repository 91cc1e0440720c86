package unpack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

// A Reason says why an artifact was not unpacked. Reasons are errors themselves, so that
// errors.Is(err, unpack.ErrChanged) works.
type Reason string

// The reasons. For a blob that is missing in the Store or does not have its digest, the cause
// is the error of the Store, or an error with a reason of package content. An error because
// the disk is full matches content.ErrNoSpace.
const (
	ErrNoName   Reason = "the layer has no file name"
	ErrBadName  Reason = "the name is not allowed"
	ErrTwice    Reason = "the artifact has the name twice"
	ErrBadType  Reason = "not a file, a directory or a link"
	ErrBadLink  Reason = "the link does not lead to a file of the directory"
	ErrBadTar   Reason = "the tar cannot be read"
	ErrTooLarge Reason = "the artifact is too large"
	ErrSubPath  Reason = "the artifact has no such directory"
	ErrTaken    Reason = "the directory is not one that an earlier call has made of this artifact"
	ErrChanged  Reason = "the directory was changed"
	ErrNoLink   Reason = "the blob cannot be linked"
)

// Error returns the reason in words.
func (r Reason) Error() string { return string(r) }

// An Error says what could not be unpacked, and why. All errors of Files are of this type,
// except that of a context which has ended.
type Error struct {
	Dir   string        // as it was passed to Files
	Layer digest.Digest // of the layer; "" if the error is not about one layer
	File  string        // the name as the layer has it, or the name in Dir; "" if the error is not about one file
	Err   error         // the cause; it wraps a Reason if this package refuses the artifact or the directory
}

// Error returns the directory, the layer, the file and the cause. Text of the artifact's
// author is quoted and cut, also in errors of the system.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "unpack to %q: ", e.Dir)
	if e.Layer != "" {
		fmt.Fprintf(&b, "layer %s: ", redact.Escape(string(e.Layer), maxQuoted))
	}
	if e.File != "" {
		fmt.Fprintf(&b, "file %s: ", quote(e.File))
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is content.ErrNoSpace and the cause is a full disk or a quota that
// is used up.
func (e *Error) Is(target error) bool {
	return target == content.ErrNoSpace && errors.Is(&content.Error{Reason: content.ErrStore, Err: e.Err}, target)
}

// A systemError is an error of the system whose text has paths quoted and cut, because the
// author of the artifact chose a part of them.
type systemError struct {
	text string
	err  error
}

func (e *systemError) Error() string { return e.text }
func (e *systemError) Unwrap() error { return e.err }

// quotePaths returns err with the paths of its system errors quoted and cut.
func quotePaths(err error) error {
	text := err.Error()
	quoted := quotePathsIn(text, err)
	if quoted == text {
		return err
	}
	return &systemError{quoted, err}
}

// quotePathsIn returns text, which is that of an error which wraps err, with the paths quoted
// that the system errors in err have.
func quotePathsIn(text string, err error) string {
	switch e := err.(type) {
	case *fs.PathError:
		return strings.ReplaceAll(text, e.Error(), fmt.Sprintf("%s %s: %v", e.Op, quote(e.Path), e.Err))
	case *os.LinkError:
		return strings.ReplaceAll(text, e.Error(), fmt.Sprintf("%s %s %s: %v", e.Op, quote(e.Old), quote(e.New), e.Err))
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return quotePathsIn(text, inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			text = quotePathsIn(text, inner)
		}
	}
	return text
}

// maxQuoted is the most bytes of a name that an error quotes.
const maxQuoted = 200

// quote returns text of an artifact for an error.
func quote(s string) string { return redact.Quote(s, maxQuoted) }

// bad returns an error with this reason. The details follow the reason.
func bad(reason Reason, format string, args ...any) error {
	return fmt.Errorf("%w: %s", reason, fmt.Sprintf(format, args...))
}
