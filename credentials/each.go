package credentials

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/reference"
)

// Each calls try with one credential after the other, in ring's order, until one
// call succeeds, and returns what that call returned. Where ring has no
// candidate for ref (also because each of its sources failed, or because ring is
// nil), try is called once with the anonymous credential; with candidates there
// is not an anonymous try at the end.
//
// An error of try moves on to the next candidate, unless it is marked with
// [Stop] or ctx has ended. A source of ring that could not answer is passed over
// in the same way; it can mark its error with Stop too.
//
// The error is an [*AttemptsError]. It holds what each candidate answered, and is to
// errors.Is what the candidate that got furthest was answered, or the cause of ctx's
// end if that ended the loop. Calls of
// try never overlap, and ring is not asked for more than is tried.
func Each[T any](ctx context.Context, ring Keyring, ref reference.Reference, try func(context.Context, Credential) (T, error)) (T, error) {
	var none T
	failed := &AttemptsError{Image: ref.Name()}
	candidates := 0
	for cred, err := range lookup(ctx, ring, ref) {
		if ctx.Err() != nil {
			failed.note(cred, err, true)
			return none, failed.ended(ctx)
		}
		if err == nil {
			candidates++
			var got T
			if got, err = try(ctx, cred); err == nil {
				return got, nil
			}
			failed.note(cred, err, false)
		} else {
			failed.note(cred, err, true)
		}
		if Stopped(err) {
			return none, failed
		}
		if ctx.Err() != nil {
			return none, failed.ended(ctx)
		}
	}
	if ctx.Err() != nil {
		return none, failed.ended(ctx)
	}
	if candidates > 0 {
		return none, failed
	}
	got, err := try(ctx, Credential{})
	if err == nil {
		return got, nil
	}
	failed.note(Credential{}, err, false)
	if ctx.Err() != nil {
		return none, failed.ended(ctx)
	}
	return none, failed
}

// An Attempt is one step of [Each] that did not succeed.
type Attempt struct {
	// Origin says where the credential was found; zero for the anonymous try.
	Origin
	// SourceFailed is set where there was no credential to try, because the source that
	// Origin names could not answer.
	SourceFailed bool
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
// Where the context ended the loop, only that counts. errors.Is and errors.As also
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

// maxListed is how many attempts an error text lists: enough for a reader, and
// a bound where a keyring holds thousands of candidates.
const maxListed = 10

// String says who was tried and what the answer was.
func (a Attempt) String() string {
	if a.SourceFailed {
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
		if rank, _ := a.rank(); rank == 0 || a.SourceFailed {
			errs = append(errs, &judged{a.Err, ""})
		}
	}
	return errs
}

// note adds an attempt. A candidate that was yielded, but not tried since the
// context had ended, has no error and leaves none behind.
func (e *AttemptsError) note(c Credential, err error, source bool) {
	if err != nil {
		e.Attempts = append(e.Attempts, Attempt{Origin: c.Origin, SourceFailed: source, Err: err, anonymous: !source && c.Anonymous()})
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

// A Verdict says how far an attempt got: which answer it was given. Of several
// attempts the one that got furthest counts, see [AttemptsError].
type Verdict string

// The verdicts. The first in this list counts before those that follow it.
const (
	// VerdictUnavailable: no connection, an answer of 5xx, or 429. A later try may work.
	VerdictUnavailable Verdict = "unavailable"
	// VerdictAnswered: the registry answered something that is not about access,
	// such as a document that cannot be read.
	VerdictAnswered Verdict = "answered"
	// VerdictAbsent: the image does not exist, by an answer of 404 or 410. Such an
	// error is an fs.ErrNotExist.
	VerdictAbsent Verdict = "absent"
	// VerdictDenied: the credential is valid but may not read the image, 403. Such an
	// error is an fs.ErrPermission.
	VerdictDenied Verdict = "denied"
	// VerdictUnauthorized: the credential is wrong, or one is missing, 401. Such an
	// error is an fs.ErrPermission.
	VerdictUnauthorized Verdict = "unauthorized"
)

// A Verdicter is an error that knows its verdict; "" means that it does not. Those of
// packages content and puller are Verdicters.
type Verdicter interface {
	error
	Verdict() Verdict
}

// VerdictOf returns what err says of an image: for an error that holds an
// [AttemptsError] the verdict of all its attempts, and "" where the registry was not
// asked. An error of another library is understood if it is a [Verdicter], a failed
// connection of package net, an fs.ErrNotExist or fs.ErrPermission, was marked by
// [WithStatus], or has a method StatusCode() int that returns the status of HTTP.
func VerdictOf(err error) Verdict {
	var all *AttemptsError
	if errors.As(err, &all) {
		_, v := all.decisive()
		return v
	}
	var (
		verdict Verdicter
		status  interface{ StatusCode() int }
		network net.Error
		op      *net.OpError
	)
	if errors.As(err, &verdict) && verdict.Verdict() != "" {
		return verdict.Verdict()
	}
	if errors.As(err, &status) && status.StatusCode() != 0 {
		return verdictOfStatus(status.StatusCode())
	}
	switch {
	case errors.As(err, &op), errors.As(err, &network) && network.Timeout():
		return VerdictUnavailable
	case errors.Is(err, fs.ErrNotExist):
		return VerdictAbsent
	case errors.Is(err, fs.ErrPermission):
		return VerdictDenied
	}
	return ""
}

func verdictOfStatus(status int) Verdict {
	switch {
	case status == 401:
		return VerdictUnauthorized
	case status == 403:
		return VerdictDenied
	case status == 404, status == 410:
		return VerdictAbsent
	case status == 408, status == 429, status >= 500:
		return VerdictUnavailable
	}
	return VerdictAnswered
}

// WithStatus marks an error of a try with the status of HTTP that the registry
// answered, for libraries whose errors have no method for it. The mark changes
// no text. WithStatus(nil, status) is nil.
func WithStatus(err error, status int) error {
	if err == nil {
		return nil
	}
	return &judged{err, verdictOfStatus(status)}
}

// judged is an error whose verdict is known. Whether it is an fs.ErrNotExist or an
// fs.ErrPermission is up to the verdict: a missing credential program is not a
// missing image, and a refused password not a file that may not be read.
type judged struct {
	err     error
	verdict Verdict
}

func (j *judged) Error() string    { return j.err.Error() }
func (j *judged) Verdict() Verdict { return j.verdict }

func (j *judged) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return j.verdict == VerdictAbsent
	case fs.ErrPermission:
		return j.verdict == VerdictDenied || j.verdict == VerdictUnauthorized
	}
	return errors.Is(j.err, target)
}

func (j *judged) As(target any) bool { return errors.As(j.err, target) }

// rank orders attempts: the highest counts.
func (a Attempt) rank() (int, Verdict) {
	v := VerdictOf(a.Err)
	switch {
	case v == "" && Stopped(a.Err):
		v = VerdictAnswered // no credential can help, so it is not about access
	case v == VerdictAbsent && a.anonymous:
		// Registries hide private repositories from strangers: where a credential was
		// refused, this does not prove that the image does not exist.
		return 1, v
	}
	switch v {
	case VerdictUnavailable:
		return 6, v
	case VerdictAnswered:
		return 5, v
	case VerdictAbsent:
		return 4, v
	case VerdictDenied:
		return 3, v
	case VerdictUnauthorized:
		return 2, v
	}
	return 0, v
}

// decisive returns the attempts that got furthest, and their verdict. Sources that
// could not answer asked no registry.
func (e *AttemptsError) decisive() ([]Attempt, Verdict) {
	if e.Ended != nil {
		return nil, VerdictUnavailable // another credential may have helped
	}
	var (
		best     []Attempt
		bestRank int
		verdict  Verdict
	)
	for _, a := range e.Attempts {
		switch r, v := a.rank(); {
		case a.SourceFailed || r < bestRank || r == 0:
		case r > bestRank:
			best, bestRank, verdict = []Attempt{a}, r, v
		default:
			best = append(best, a)
		}
	}
	return best, verdict
}
