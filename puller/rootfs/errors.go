package rootfs

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

// A Reason says why a root file system was not made. Reasons are errors themselves, so that
// errors.Is(err, rootfs.ErrTaken) works.
type Reason string

// The reasons. For a blob that is missing in the Store or does not have its digest, the cause
// is the error of the Store, or an error with a reason of package content. An error because
// the disk is full matches content.ErrNoSpace.
const (
	ErrNotImage Reason = "not an image with a root file system"
	ErrBadLayer Reason = "not a layer that can be applied"
	ErrTooLarge Reason = "the image is too large"
	ErrBadName  Reason = "the name is not allowed"
	ErrTaken    Reason = "the directory is not one that an earlier call has made of this image"
)

// Error returns the reason in words.
func (r Reason) Error() string { return string(r) }

// An Error says what could not be unpacked, and why. All errors of Unpack and Read are of this
// type, except that of a context which has ended.
type Error struct {
	Dir   string        // as it was passed to Unpack
	Layer digest.Digest // of the layer's blob; "" if the error is not about one layer
	File  string        // the name as the layer has it; "" if the error is not about one file
	Err   error         // the cause; it wraps a Reason if this package refuses the image or the directory
}

// Error returns the directory, the layer, the file and the cause. Text of the image's author is
// quoted or escaped, and cut.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "root file system in %q: ", e.Dir)
	if e.Layer != "" {
		fmt.Fprintf(&b, "layer %s: ", redact.Escape(string(e.Layer), maxQuoted))
	}
	if e.File != "" {
		fmt.Fprintf(&b, "file %s: ", redact.Quote(e.File, maxQuoted))
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

const (
	maxQuoted = 200  // bytes of a name that an error quotes
	maxText   = 1000 // bytes of another library's error
)

// bad returns an error with this reason. The details follow the reason. They are escaped and
// cut, because they can have names that the image's author chose.
func bad(reason Reason, format string, args ...any) error {
	return fmt.Errorf("%w: %s", reason, redact.Escape(fmt.Sprintf(format, args...), maxText))
}

// A foreignError is an error of another library or of the system, whose text is escaped and
// cut, because the image's author chose a part of it.
type foreignError struct {
	text string
	err  error
}

func (e *foreignError) Error() string { return e.text }
func (e *foreignError) Unwrap() error { return e.err }

// foreign returns err with an escaped text. If the text is cut and the system's message was at
// its end, behind a long path, foreign appends the message again.
func foreign(err error) error {
	text := err.Error()
	if shown := redact.Escape(text, maxText); shown != text {
		var number syscall.Errno
		if errors.As(err, &number) && !strings.HasSuffix(shown, number.Error()) {
			shown += ": " + number.Error()
		}
		return &foreignError{shown, err}
	}
	return err
}

// mismatch returns the error for content that does not have its digest.
func mismatch(format string, args ...any) error {
	return &content.Error{Reason: content.ErrDigestMismatch, Err: fmt.Errorf(format, args...)}
}
