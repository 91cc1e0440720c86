// Package checked says what the error of an admission check means: that the check refuses
// an image, or that it could not decide.
package checked

import (
	"context"
	"errors"
	"io/fs"

	"github.com/pullkit/pullkit/puller/content"
)

// Error returns the error of a pull whose image was not admitted because of err. ctx is
// that of the caller: if it has ended, the result is the cause of its end. Otherwise it is
// a content.Error, with the reason ErrCheckFailed if the check could not decide, and
// ErrRefused if it refuses the image: see content.Check.
//
// The result does not match fs.ErrNotExist and fs.ErrPermission, because those would say
// something of the image itself.
func Error(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var done *content.Error
	if errors.As(err, &done) {
		if _, ok := done.Err.(*cause); ok && (done.Reason == content.ErrRefused || done.Reason == content.ErrCheckFailed) {
			return done
		}
	}
	e := &content.Error{Reason: content.ErrRefused, Err: &cause{err}}
	if Undecided(err) {
		e.Reason = content.ErrCheckFailed
		if done != nil {
			e.RetryAfter = done.RetryAfter
		}
	}
	return e
}

// Undecided reports whether err says that a check could not decide.
func Undecided(err error) bool {
	if errors.Is(err, content.ErrRefused) {
		return false
	}
	return content.ReasonOf(err) != "" || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// OtherCredential reports whether a check with another credential may decide, because the
// registry did not show with this one what the check needs.
func OtherCredential(err error) bool {
	if !Undecided(err) {
		return false
	}
	var done *content.Error
	if errors.As(err, &done) {
		if c, ok := done.Err.(*cause); ok {
			err = c.err
		}
	}
	switch content.ReasonOf(err) {
	case content.ErrUnauthorized, content.ErrDenied, content.ErrNotFound:
		return true
	}
	return false
}

// A cause is the error of a check. It hides what callers would take for an answer about the
// image.
type cause struct{ err error }

func (c *cause) Error() string { return c.err.Error() }

// Is hides fs.ErrNotExist, fs.ErrPermission and all reasons.
func (c *cause) Is(target error) bool {
	if _, ok := target.(content.Reason); ok || target == fs.ErrNotExist || target == fs.ErrPermission {
		return false
	}
	return errors.Is(c.err, target)
}

// As hides reasons and the errors of package content.
func (c *cause) As(target any) bool {
	switch target.(type) {
	case *content.Reason, **content.Error:
		return false
	}
	return errors.As(c.err, target)
}
