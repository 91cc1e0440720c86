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

// Each calls try with each candidate of ring for ref, in order, until one call succeeds,
// and returns the result of that call. If ring has no candidate for ref, Each calls try
// once, with the anonymous credential. It also does so if all of ring's sources failed,
// or if ring is nil. After candidates that failed it does not try the anonymous
// credential.
//
// After an error of try, Each goes on with the next candidate, unless the error is marked
// with [Stop] or ctx has ended. After an error of a source of ring, Each goes on with the
// next source in the same way, unless the source marked its error with Stop.
//
// The error is an [*AttemptsError]. It holds the error of each attempt. To errors.Is it is
// the error of the attempt that got furthest, or the cause of ctx's end if that ended the
// loop.
//
// Calls of try never overlap. Each asks ring for the next candidate only when it is about
// to try that candidate.
func Each[T any](ctx context.Context, ring Keyring, ref reference.Reference, try func(context.Context, Credential) (T, error)) (T, error) {
	var got T
	err := each(ctx, ring, ref, func(cred Credential) error {
		result, err := try(ctx, cred)
		if err == nil {
			got = result
		}
		return err
	})
	return got, err
}

// each is Each without the type of the result, which a program that calls Each with several
// types has only once.
func each(ctx context.Context, ring Keyring, ref reference.Reference, try func(Credential) error) error {
	failed := &AttemptsError{Image: ref.Name()}
	candidates := 0
	for cred, err := range lookup(ctx, ring, ref) {
		if ctx.Err() != nil {
			failed.note(cred, err, true)
			return failed.ended(ctx)
		}
		if err == nil {
			candidates++
			if err = try(cred); err == nil {
				return nil
			}
			failed.note(cred, err, false)
		} else {
			failed.note(cred, err, true)
		}
		if Stopped(err) {
			return failed
		}
		if ctx.Err() != nil {
			return failed.ended(ctx)
		}
	}
	if ctx.Err() != nil {
		return failed.ended(ctx)
	}
	if candidates > 0 {
		return failed
	}
	err := try(Credential{})
	if err == nil {
		return nil
	}
	failed.note(Credential{}, err, false)
	if ctx.Err() != nil {
		return failed.ended(ctx)
	}
	return failed
}

// An Attempt is one step of [Each] that failed: a call of try, or a source that could not
// answer.
type Attempt struct {
	// Origin says where the credential was found, or which source failed. It is zero for
	// the anonymous attempt.
	Origin
	// SourceFailed says that there was no credential to try, because the source that
	// Origin names could not answer.
	SourceFailed bool
	// Err is the error of try, or of the source.
	Err error

	anonymous bool // try was called with an anonymous credential
}

// An AttemptsError is the error that [Each] returns if no attempt succeeded. To errors.Is,
// errors.As and [VerdictOf] it is the error of the attempt that got furthest, or of all
// that got equally far. For example, after the answer 401 for a stale credential and 404
// for a valid one the image does not exist: the AttemptsError is then an fs.ErrNotExist,
// and not an fs.ErrPermission. Attempts count in this order, the furthest first:
//
//   - no connection, or an answer of 429 or 5xx, because a later attempt may succeed;
//   - any answer that is not about access, such as a broken manifest;
//   - 404 with a credential;
//   - 403;
//   - 401;
//   - 404 without a credential, because registries answer it for private repositories
//     too.
//
// If the context ended the loop, only the cause of its end counts. errors.Is and errors.As
// also find errors that have no [Verdict], and the errors of sources that could not answer,
// but such an error never makes the AttemptsError an fs.ErrNotExist or fs.ErrPermission.
type AttemptsError struct {
	Image    string    // the image's name without tag and digest
	Attempts []Attempt // all attempts, in the order in which they were made
	// Ended is the cause of the context's end if that ended the loop; nil otherwise.
	Ended error
}

// Error returns a text with the origin and the error of the first ten attempts. It adds no
// secret to the texts of these errors.
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

// maxListed is the number of attempts that an error text lists, because a keyring may have
// thousands of candidates.
const maxListed = 10

// String returns a text that says which credential was tried, or which source was asked,
// and with which error.
func (a Attempt) String() string {
	if a.SourceFailed {
		var source *Error
		if errors.As(a.Err, &source) && source.Image != "" {
			return a.Err.Error() // its text names the origin
		}
		return fmt.Sprintf("%v could not answer: %v", a.Origin, a.Err)
	}
	if a.Origin == (Origin{}) {
		return fmt.Sprintf("without a credential: %v", a.Err)
	}
	return fmt.Sprintf("with %v: %v", a.Origin, a.Err)
}

// Unwrap returns first the errors that count, then those that have no verdict.
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

// note adds an attempt that failed with err; source says that a source failed. If err is
// nil, it adds nothing: the candidate was not tried, because the context ended.
func (e *AttemptsError) note(c Credential, err error, source bool) {
	if err != nil {
		e.Attempts = append(e.Attempts, Attempt{Origin: c.Origin, SourceFailed: source, Err: err, anonymous: !source && c.Anonymous()})
	}
}

func (e *AttemptsError) ended(ctx context.Context) error {
	e.Ended = context.Cause(ctx)
	return e
}

// Stop marks an error of an attempt as one for which another credential does not help: a
// full disk, content that does not match its digest, a registry that asks its clients to
// wait. [Each] ends at an error that is marked. Stop(nil) is nil.
func Stop(err error) error {
	if err == nil {
		return nil
	}
	return &stopError{err}
}

// Stopped reports whether err is, or wraps, an error that is marked with [Stop]. An
// [*AttemptsError] wraps the errors of all of its attempts here.
func Stopped(err error) bool {
	var stop *stopError
	var all *AttemptsError
	return errors.As(err, &stop) ||
		errors.As(err, &all) && slices.ContainsFunc(all.Attempts, func(a Attempt) bool { return Stopped(a.Err) })
}

type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// A Verdict says how far an attempt got: what its error says about the image. Of several
// attempts the one that got furthest counts; see [AttemptsError].
type Verdict string

// The verdicts. An earlier one in this list counts before a later one.
const (
	// VerdictUnavailable means that there was no connection, or an answer of 408, 429 or
	// 5xx. A later attempt may succeed.
	VerdictUnavailable Verdict = "unavailable"
	// VerdictAnswered means that the registry's answer is not about access, such as a
	// document that cannot be read.
	VerdictAnswered Verdict = "answered"
	// VerdictAbsent means that the image does not exist: the answer was 404 or 410. In an
	// [AttemptsError] such an error is an fs.ErrNotExist.
	VerdictAbsent Verdict = "absent"
	// VerdictDenied means that the credential is valid, but may not read the image: the
	// answer was 403. In an [AttemptsError] such an error is an fs.ErrPermission.
	VerdictDenied Verdict = "denied"
	// VerdictUnauthorized means that the credential is wrong or missing: the answer was
	// 401. In an [AttemptsError] such an error is an fs.ErrPermission.
	VerdictUnauthorized Verdict = "unauthorized"
)

// A Verdicter is an error that has a verdict. The errors of packages content and puller
// are Verdicters.
type Verdicter interface {
	error
	// Verdict returns the verdict; "" if the error says nothing about the image.
	Verdict() Verdict
}

// VerdictOf returns the verdict of err; "" if err says nothing about the image, for example
// because the registry was not asked. If err wraps an [AttemptsError], that is the verdict
// of all of its attempts. An error of another library has a verdict if it wraps a
// [Verdicter], an error that has a method StatusCode() int for the HTTP status, a failed
// connection of package net, an fs.ErrNotExist or an fs.ErrPermission, or if [WithStatus]
// marked it.
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

// WithStatus marks an error of an attempt with the HTTP status of the registry's answer. It
// is for libraries whose errors have no method StatusCode. The mark does not change the
// error's text. WithStatus(nil, status) is nil.
func WithStatus(err error, status int) error {
	if err == nil {
		return nil
	}
	return &judged{err, verdictOfStatus(status)}
}

// judged is an error whose verdict is known. Only the verdict decides whether the judged
// is an fs.ErrNotExist or an fs.ErrPermission. err may be such an error for another
// reason: a missing credential program is not a missing image.
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

// rank returns how far an attempt got, and its verdict: the attempts with the highest
// rank count. The rank is 0 for an attempt without a verdict.
func (a Attempt) rank() (int, Verdict) {
	v := VerdictOf(a.Err)
	switch {
	case v == "" && Stopped(a.Err):
		v = VerdictAnswered // another credential does not help, so the error is not about access
	case v == VerdictAbsent && a.anonymous:
		// Registries hide private repositories from anonymous clients. If a credential
		// was refused, this answer does not prove that the image does not exist.
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

// decisive returns the attempts that got furthest, and their verdict. It ignores sources
// that could not answer, because no registry was asked then.
func (e *AttemptsError) decisive() ([]Attempt, Verdict) {
	if e.Ended != nil {
		return nil, VerdictUnavailable // a credential that was not tried may be good
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
