package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

// A statusError is an answer whose status says that the server refuses the request. Each
// of its texts has at most 1 KiB, and has no secrets and no control characters.
type statusError struct {
	method          string
	url             string // the URL that answered, without user info and query values
	status          int
	reasons         []serverReason
	retryAfter      time.Duration // 0 if the server does not order a wait
	ordersWait      bool          // the server orders a wait, which may be of 0 seconds
	passwordRefused bool          // the answer is a 401 to a request with a password
}

// A serverReason is one reason that a server gives for a refusal. At least one field is
// set.
type serverReason struct {
	code    string // MANIFEST_UNKNOWN, TOOMANYREQUESTS, ...
	message string // human-readable
}

func (r serverReason) String() string {
	if r.code == "" || r.message == "" {
		return r.code + r.message
	}
	return r.code + ": " + r.message
}

// Error is one line: what was asked, the status, and the server's reasons.
func (e *statusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d", e.method, e.url, e.status)
	if text := http.StatusText(e.status); text != "" {
		b.WriteString(" " + text)
	}
	for i, r := range e.reasons {
		b.WriteString([]string{": ", "; "}[min(i, 1)] + r.String())
	}
	return redact.Text(b.String())
}

// codes returns the server's codes without their messages.
func (e *statusError) codes() []string {
	var codes []string
	for _, r := range e.reasons {
		if r.code != "" {
			codes = append(codes, r.code)
		}
	}
	return codes
}

// has reports whether the server gave the code.
func (e *statusError) has(code string) bool { return slices.Contains(e.codes(), code) }

// statusOf returns the status of the answer that err is about; 0 if err is not about an
// answer's status.
func statusOf(err error) int {
	var e *statusError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

// reasonOfStatus returns the Reason that an answer means for the caller.
func reasonOfStatus(e *statusError) content.Reason {
	switch {
	case e.status == http.StatusTooManyRequests, e.has("TOOMANYREQUESTS"):
		return content.ErrRateLimited
	case e.status == http.StatusUnauthorized,
		// A token server answers in this way to a wrong password or a revoked identity
		// token (RFC 6749, section 5.2).
		e.status == http.StatusBadRequest && (e.has("invalid_grant") || e.has("invalid_client")):
		return content.ErrUnauthorized
	case e.status == http.StatusForbidden:
		return content.ErrDenied
	case e.status == http.StatusNotFound, e.status == http.StatusGone:
		return content.ErrNotFound
	case e.status == http.StatusRequestTimeout, e.status >= 500:
		return content.ErrUnavailable
	case e.status == http.StatusRequestedRangeNotSatisfiable:
		return content.ErrRange
	}
	return content.ErrStatus
}

// A described error has a text of its own: the text of its cause without secrets, or a
// text that says more than its cause.
type described struct {
	text string
	err  error // the cause
}

func (e *described) Error() string { return e.text }
func (e *described) Unwrap() error { return e.err }

// fail makes the error of a host. cause may quote text that a server sent; it is made
// safe to print, with the secrets masked.
func fail(reason content.Reason, host string, cause error, secrets ...string) *content.Error {
	e := &content.Error{Reason: reason, Host: redact.Text(host, secrets...)}
	if cause == nil {
		return e
	}
	var status *statusError
	if errors.As(cause, &status) {
		e.RetryAfter, e.Status, e.Codes = status.retryAfter, status.status, status.codes()
	}
	e.Err = &described{redact.Text(cause.Error(), secrets...), cause}
	return e
}

func failf(reason content.Reason, host, format string, args ...any) *content.Error {
	return fail(reason, host, fmt.Errorf(format, args...))
}

// quote quotes at most n bytes of text that a server sent. Secrets are masked before the
// text is cut, because half of a secret is not recognised.
func quote(s string, n int, secrets []string) string {
	return redact.Quote(redact.Secrets(s, secrets...), n)
}

// quoteURL quotes a text that should be a URL and is not. Its query and user info are
// masked, because the text may be a signed URL with a fault in it.
func quoteURL(s string, secrets []string) string {
	s, _, query := strings.Cut(s, "?")
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			s = scheme + "://" + redact.Mask + rest[i:]
		}
	}
	if query {
		s += "?" + redact.Mask
	}
	return quote(s, 200, secrets)
}

// failTrip returns the error of a request that got no answer, or whose answer broke
// off.
func failTrip(ctx context.Context, host string, err error, secrets []string) error {
	switch {
	case errors.Is(context.Cause(ctx), errStalled):
		return fail(content.ErrTimeout, host, errStalled, secrets...)
	case ctx.Err() != nil:
		return canceled(ctx, redact.Secrets(host, secrets...))
	}
	var refused *content.Error
	if errors.As(err, &refused) && refused.Reason == content.ErrForbiddenURL { // see forbidden
		return fail(refused.Reason, host, refused.Err, secrets...)
	}
	if isTLS(err) {
		return fail(content.ErrTLS, host, err, secrets...)
	}
	return fail(content.ErrNetwork, host, err, secrets...)
}

// canceled returns the error of a call whose context ctx has ended.
func canceled(ctx context.Context, host string) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(cause, err) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if host == "" {
		return err
	}
	return fmt.Errorf("%s: %w", redact.Text(host), err)
}

// isTLS reports whether err is an error of TLS itself, and not of the connection below
// it.
func isTLS(err error) bool {
	var (
		record       tls.RecordHeaderError
		verification *tls.CertificateVerificationError
		unknown      x509.UnknownAuthorityError
		invalid      x509.CertificateInvalidError
		name         x509.HostnameError
		op           *net.OpError
	)
	switch {
	case errors.As(err, &record), errors.As(err, &verification), errors.As(err, &unknown),
		errors.As(err, &invalid), errors.As(err, &name):
		return true
	case errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"):
		return true // an alert
	}
	return err != nil && strings.HasPrefix(err.Error(), "tls: ")
}

// tooEarly returns err, or io.ErrUnexpectedEOF if the answer ended too early without an
// error.
func tooEarly(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// noSuchHost reports whether err says that a host name does not exist. It is false if
// no resolver could be asked.
func noSuchHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound && !dns.IsTemporary && !dns.IsTimeout
}
