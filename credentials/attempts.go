package credentials

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// An Attempt is one step of [Each] that did not succeed.
type Attempt struct {
	// Origin says where the credential was found; zero for the anonymous try.
	Origin Origin
	// Source is set where there was no credential to try, since the source that
	// Origin names could not answer.
	Source bool
	// Err is what the try, or the source, answered.
	Err error

	anonymous bool // no credential was shown
}

// An AttemptsError is what [Each] returns when nothing succeeded. Attempts lists all
// attempts. To errors.Is, errors.As and [VerdictOf] it is the answer of the attempt
// that got furthest, or of all that got as far: after 401 for a stale credential and
// 404 for a valid one the image does not exist, and the error is an fs.ErrNotExist and
// no fs.ErrPermission. In this order,
//
//   - no connection, 429 and 5xx count before all, because a later try may work;
//   - then any answer that is not about access, such as a broken manifest;
//   - then 404 for a credential;
//   - then 403, then 401;
//   - then 404 for a try without a credential, because registries answer that for
//     private repositories too.
//
// Where the context ended the loop, that counts alone. errors.Is and errors.As also
// find errors that say nothing about access, and those of sources that could not
// answer, but none of these makes the whole an fs.ErrNotExist or fs.ErrPermission.
type AttemptsError struct {
	Image    string    // the image's name without tag and digest
	Attempts []Attempt // in the order in which they were made
	// Ended is the cause of the end of the context if that cut the loop short;
	// nil otherwise.
	Ended error
}

// Error names each origin and what it answered, and the secrets of none.
func (e *AttemptsError) Error() string {
	var b strings.Builder
	b.WriteString("image " + quote(e.Image) + ": ")
	if len(e.Attempts) == 0 && e.Ended == nil {
		b.WriteString("nothing tried")
	}
	for i, a := range e.Attempts {
		if i > 0 {
			b.WriteString("; ")
		}
		if i == maxListed {
			fmt.Fprintf(&b, "%d more", len(e.Attempts)-i)
			break
		}
		b.WriteString(a.String())
	}
	if e.Ended != nil {
		if len(e.Attempts) > 0 {
			b.WriteString("; ")
		}
		b.WriteString("ended: " + e.Ended.Error())
	}
	return b.String()
}

// maxListed is how many attempts an error text lists: enough for people, and
// a bound where a keyring holds thousands of candidates.
const maxListed = 10

// String says who was tried and what the answer was.
func (a Attempt) String() string {
	if a.Source {
		var source *SourceError
		if errors.As(a.Err, &source) {
			return a.Err.Error() // it names its origin
		}
		return fmt.Sprintf("%v could not answer: %v", a.Origin, a.Err)
	}
	if a.Origin == (Origin{}) {
		return fmt.Sprintf("without a credential: %v", a.Err)
	}
	return fmt.Sprintf("with %v: %v", a.Origin, a.Err)
}

// Unwrap returns the errors that count, then those that have no verdict.
func (e *AttemptsError) Unwrap() []error {
	var errs []error
	if e.Ended != nil {
		errs = append(errs, e.Ended)
	}
	best, verdict := e.decisive()
	for _, a := range best {
		errs = append(errs, &judged{a.Err, verdict})
	}
	for _, a := range e.Attempts {
		if rank, _ := a.rank(); rank == 0 || a.Source {
			errs = append(errs, &judged{a.Err, ""})
		}
	}
	return errs
}

// note adds an attempt. A candidate that was yielded, but not tried since the
// context had ended, has no error and leaves none behind.
func (e *AttemptsError) note(c Credential, err error, source bool) {
	if err != nil {
		e.Attempts = append(e.Attempts, Attempt{Origin: c.Origin, Source: source, Err: err, anonymous: !source && c.Anonymous()})
	}
}

func (e *AttemptsError) ended(ctx context.Context) error {
	e.Ended = context.Cause(ctx)
	return e
}

// Stop marks an error of a try as one that no other credential can cure: a full
// disk, a digest that does not fit, a registry that asked everybody to wait.
// [Each] ends at it. Stop(nil) is nil.
func Stop(err error) error {
	if err == nil {
		return nil
	}
	return &stopError{err}
}

// Stopped reports whether err is, or wraps, an error marked with [Stop].
func Stopped(err error) bool {
	var stop *stopError
	var all *AttemptsError
	return errors.As(err, &stop) ||
		errors.As(err, &all) && slices.ContainsFunc(all.Attempts, func(a Attempt) bool { return Stopped(a.Err) })
}

type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }
