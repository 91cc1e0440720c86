package content

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
)

// A Kind names why content could not be had or kept. Kinds are errors
// themselves, so that errors.Is(err, content.ErrDigestMismatch) works on what
// any Source, Store or transfer returns.
type Kind string

// The kinds of errors. See the table in the package comment.
const (
	ErrDigestMismatch  Kind = "digest mismatch"
	ErrSizeMismatch    Kind = "size mismatch"
	ErrTooLarge        Kind = "too large"
	ErrTooDeep         Kind = "too deep"
	ErrBadManifest     Kind = "bad manifest"
	ErrBadIndex        Kind = "bad index"
	ErrBadDigest       Kind = "bad digest"
	ErrBadReference    Kind = "bad reference"
	ErrMediaType       Kind = "unexpected media type"
	ErrNoPlatform      Kind = "no such platform"
	ErrNotFound        Kind = "not found"
	ErrUnauthorized    Kind = "unauthorized"
	ErrDenied          Kind = "denied"
	ErrRateLimited     Kind = "rate limited"
	ErrUnavailable     Kind = "registry unavailable"
	ErrForbiddenURL    Kind = "forbidden URL"
	ErrRedirect        Kind = "bad redirect"
	ErrRange           Kind = "bad range"
	ErrContentEncoding Kind = "unexpected content encoding"
	ErrTLS             Kind = "TLS failure"
	ErrNetwork         Kind = "network failure"
	ErrTimeout         Kind = "timed out"
	ErrStatus          Kind = "unexpected status"
	ErrStore           Kind = "store failure"
	ErrRefused         Kind = "refused by the admission hook"
	ErrConfig          Kind = "bad configuration"
)

// Error is the kind in words.
func (k Kind) Error() string { return string(k) }

// Is makes ErrNotFound an fs.ErrNotExist, ErrUnauthorized and ErrDenied an fs.ErrPermission.
func (k Kind) Is(target error) bool {
	switch k {
	case ErrNotFound:
		return target == fs.ErrNotExist
	case ErrUnauthorized, ErrDenied:
		return target == fs.ErrPermission
	}
	return false
}

// Verdict says how far an attempt got that ended with an error of this kind; see
// credentials.AttemptsError.
func (k Kind) Verdict() credentials.Verdict {
	switch k {
	case ErrNotFound:
		return credentials.VerdictAbsent
	case ErrDenied:
		return credentials.VerdictDenied
	case ErrUnauthorized:
		return credentials.VerdictUnauthorized
	case ErrRateLimited, ErrUnavailable, ErrNetwork, ErrTimeout, ErrTLS:
		return credentials.VerdictUnavailable
	}
	return credentials.VerdictAnswered
}

// An Error says what kind of failure it was and where.
type Error struct {
	Kind Kind
	Host string // host[:port] that was asked last; "" where none was
	// RetryAfter is how long the server asks everybody to wait; 0 if it did not.
	RetryAfter time.Duration
	// HeadRefused says that Source.Manifest showed a password with a HEAD, which was
	// refused, and that no GET followed, because a wrong password must not count
	// twice. The answer to a HEAD has no reason in it; Manifest without have asks by
	// GET.
	HeadRefused bool
	Err         error // the cause; may be nil
}

// Error gives host, kind and cause. The host is left out where the cause has a URL
// with it.
func (e *Error) Error() string {
	var parts []string
	cause := ""
	if e.Err != nil {
		cause = e.Err.Error()
	}
	if e.Host != "" && !hasURLOf(cause, e.Host) {
		parts = append(parts, e.Host)
	}
	parts = append(parts, string(e.Kind))
	if e.Err != nil {
		parts = append(parts, cause)
	}
	return strings.Join(parts, ": ")
}

func hasURLOf(text, host string) bool {
	return strings.Contains(text, "://"+host+"/") || strings.Contains(text, "://"+host+"?")
}

// Unwrap gives errors.Is and errors.As the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// KindOf returns the outermost Kind in err's tree, and "" if there is none. Of an
// error of several attempts it is the kind of the one that got furthest, see
// credentials.AttemptsError.
func KindOf(err error) Kind {
	var k Kind
	errors.As(err, &k)
	return k
}

// ServerHost returns Host. Package puller, which does not know this one, reads it
// for the attempts that it lists.
func (e *Error) ServerHost() string { return e.Host }

// ErrNoSpace says that a store has no room left: the disk is full, or a quota is used
// up. It holds for every error of kind ErrStore whose cause is one of the system's
// numbers for that, and it is an ENOSPC of package syscall where that has one. So a
// caller tests for one name on all systems:
//
//	errors.Is(err, content.ErrNoSpace)
var ErrNoSpace error = noSpace{}

type noSpace struct{}

func (noSpace) Error() string { return "no space left on device" }

// Is makes ErrNoSpace the first of the system's numbers, ENOSPC.
func (noSpace) Is(target error) bool { return len(fullNumbers) > 0 && target == fullNumbers[0] }

// Is makes an error of a store an ErrNoSpace if its cause is any of the system's
// numbers for a full disk.
func (e *Error) Is(target error) bool {
	if e.Kind != ErrStore || target != ErrNoSpace && !ErrNoSpace.(noSpace).Is(target) {
		return false
	}
	return slices.ContainsFunc(fullNumbers, func(n error) bool { return errors.Is(e.Err, n) })
}
