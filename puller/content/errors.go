package content

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
)

// A Reason says why content could not be read or stored. Reasons are errors themselves, so
// that errors.Is(err, content.ErrDigestMismatch) works for the errors of every Source,
// Store and transfer.
type Reason string

// The reasons; see the table in the package comment. The reasons about documents are
// those of package index.
const (
	ErrDigestMismatch  Reason = Reason(index.ErrDigestMismatch)
	ErrSizeMismatch    Reason = Reason(index.ErrSizeMismatch)
	ErrTooLarge        Reason = Reason(index.ErrTooLarge)
	ErrTooDeep         Reason = Reason(index.ErrTooDeep)
	ErrBadManifest     Reason = Reason(index.ErrBadManifest)
	ErrBadIndex        Reason = Reason(index.ErrBadIndex)
	ErrBadDigest       Reason = Reason(index.ErrBadDigest)
	ErrBadReference    Reason = "bad reference"
	ErrMediaType       Reason = Reason(index.ErrMediaType)
	ErrNoPlatform      Reason = "no such platform"
	ErrNotFound        Reason = "not found"
	ErrUnauthorized    Reason = "unauthorized"
	ErrDenied          Reason = "denied"
	ErrRateLimited     Reason = "rate limited"
	ErrUnavailable     Reason = "registry unavailable"
	ErrForbiddenURL    Reason = "forbidden URL"
	ErrRedirect        Reason = "bad redirect"
	ErrRange           Reason = "bad range"
	ErrContentEncoding Reason = "unexpected content encoding"
	ErrTLS             Reason = "TLS failure"
	ErrNetwork         Reason = "network failure"
	ErrTimeout         Reason = "timed out"
	ErrStatus          Reason = "unexpected status"
	ErrStore           Reason = "store failure"
	ErrRefused         Reason = "not admitted"
	ErrCheckFailed     Reason = "the admission check could not decide"
	ErrConfig          Reason = "bad configuration"
)

// Error returns the reason in words.
func (r Reason) Error() string { return string(r) }

// Is reports whether target is fs.ErrNotExist, for ErrNotFound, or fs.ErrPermission, for
// ErrUnauthorized and ErrDenied.
func (r Reason) Is(target error) bool {
	switch r {
	case ErrNotFound:
		return target == fs.ErrNotExist
	case ErrUnauthorized, ErrDenied:
		return target == fs.ErrPermission
	}
	return false
}

// Verdict returns how far an attempt got that ended with this reason; see
// credentials.AttemptsError.
func (r Reason) Verdict() credentials.Verdict {
	switch r {
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

// An Error says why a call failed and where.
type Error struct {
	Reason Reason
	Host   string // host[:port] of the last request; "" if there was no request
	// Status is the HTTP status of Host's answer. Codes are the registry's own names for
	// the reason, such as MANIFEST_UNKNOWN. Both are zero if there was no answer, or if the
	// answer was a success.
	Status int
	Codes  []string
	// RetryAfter is how long the server asks every client to wait; 0 if it does not ask.
	RetryAfter time.Duration
	// HeadRefused says that Source.Manifest sent a password with a HEAD that was refused,
	// and sent no GET after it, because a server that counts wrong passwords must not count
	// this one twice. The answer to a HEAD does not contain the registry's reason. To get
	// the reason, call Manifest with an empty have, which sends a GET.
	HeadRefused bool
	Err         error // the cause; may be nil
}

// Error returns host, reason and cause. The host is left out if the cause has a URL of
// that host.
func (e *Error) Error() string {
	var parts []string
	cause := ""
	if e.Err != nil {
		cause = e.Err.Error()
	}
	if e.Host != "" && !hasURLOf(cause, e.Host) {
		parts = append(parts, e.Host)
	}
	parts = append(parts, string(e.Reason))
	if e.Err != nil {
		parts = append(parts, cause)
	}
	return strings.Join(parts, ": ")
}

func hasURLOf(text, host string) bool {
	return strings.Contains(text, "://"+host+"/") || strings.Contains(text, "://"+host+"?")
}

// Unwrap returns the reason and the cause, for errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// ReasonOf returns the outermost Reason in err's tree, or "" if there is none. For an error
// of several attempts it returns the reason of the attempt that got furthest; see
// credentials.AttemptsError.
func ReasonOf(err error) Reason {
	var k Reason
	errors.As(err, &k)
	return k
}

// ErrNoSpace means that a store has no room left: the disk is full, or a quota is used up.
// Every Error with the reason ErrStore matches ErrNoSpace if its cause is one of the
// system's error numbers for a full disk or quota. ErrNoSpace also matches syscall.ENOSPC
// on systems that have it. So a caller needs one test for all systems:
//
//	errors.Is(err, content.ErrNoSpace)
var ErrNoSpace error = noSpace{}

type noSpace struct{}

func (noSpace) Error() string { return "no space left on device" }

// Is reports whether target is the first of the system's numbers, ENOSPC.
func (noSpace) Is(target error) bool { return len(fullNumbers) > 0 && target == fullNumbers[0] }

// Is reports whether target is ErrNoSpace, for an error of a store whose cause is one of
// the system's numbers for a full disk.
func (e *Error) Is(target error) bool {
	if e.Reason != ErrStore || target != ErrNoSpace && !ErrNoSpace.(noSpace).Is(target) {
		return false
	}
	return slices.ContainsFunc(fullNumbers, func(n error) bool { return errors.Is(e.Err, n) })
}
