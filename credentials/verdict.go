package credentials

import (
	"errors"
	"io/fs"
	"net"
)

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
// answered, for libraries whose errors have no method that tells it. The mark changes
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
		// refused, this is no proof that the image does not exist.
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
		case a.Source || r < bestRank || r == 0:
		case r > bestRank:
			best, bestRank, verdict = []Attempt{a}, r, v
		default:
			best = append(best, a)
		}
	}
	return best, verdict
}
