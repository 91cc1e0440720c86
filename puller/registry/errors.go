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
	"strings"
	"time"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
)

// A StatusError is an answer whose status says that the server does not give what was
// asked for. Its texts hold no secrets, no control characters and no more than
// 1 KiB each. Errors of a Client wrap it in a *content.Error.
type StatusError struct {
	Method string
	URL    string // what was asked, redirects followed; without user info and query values
	Status int
	Codes  []Code // the reasons that the server gives; empty if there are none
	// RetryAfter is how long the server asks to wait; 0 if it does not.
	RetryAfter time.Duration

	passwordRefused bool // it is a 401 in answer to a password
}

// A Code is one reason that a server gives for a refusal. At least one field is set.
type Code struct {
	Code    string // MANIFEST_UNKNOWN, TOOMANYREQUESTS, ...; "" where the server gave text alone
	Message string // human-readable; may be empty
}

// String is the code and the message, as far as there are any.
func (c Code) String() string {
	if c.Code == "" || c.Message == "" {
		return c.Code + c.Message
	}
	return c.Code + ": " + c.Message
}

// Error is one line: what was asked, the status, and what the registry says of it.
func (e *StatusError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d", e.Method, e.URL, e.Status)
	if text := http.StatusText(e.Status); text != "" {
		b.WriteString(" " + text)
	}
	for i, c := range e.Codes {
		b.WriteString([]string{": ", "; "}[min(i, 1)] + c.String())
	}
	return redact.Text(b.String())
}

// StatusCode returns the HTTP status. Package puller reads it for the attempts
// that it lists.
func (e *StatusError) StatusCode() int { return e.Status }

// ErrorCodes returns the registry's codes without their messages. Package puller
// reads them for the attempts that it lists.
func (e *StatusError) ErrorCodes() []string {
	var codes []string
	for _, c := range e.Codes {
		codes = append(codes, c.Code)
	}
	return codes
}

// has reports whether the registry gave the code.
func (e *StatusError) has(code string) bool {
	for _, c := range e.Codes {
		if c.Code == code {
			return true
		}
	}
	return false
}

// statusOf returns the status that err is about; 0 if it is about none.
func statusOf(err error) int {
	var e *StatusError
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// kindOfStatus names what an answer means for the caller.
func kindOfStatus(e *StatusError) content.Kind {
	switch {
	case e.Status == http.StatusTooManyRequests, e.has("TOOMANYREQUESTS"):
		return content.ErrRateLimited
	case e.Status == http.StatusUnauthorized,
		// What a token server that goes by RFC 6749, section 5.2, says of a wrong
		// password or an identity token that was taken back.
		e.Status == http.StatusBadRequest && (e.has("invalid_grant") || e.has("invalid_client")):
		return content.ErrUnauthorized
	case e.Status == http.StatusForbidden:
		return content.ErrDenied
	case e.Status == http.StatusNotFound, e.Status == http.StatusGone:
		return content.ErrNotFound
	case e.Status == http.StatusRequestTimeout, e.Status >= 500:
		return content.ErrUnavailable
	case e.Status == http.StatusRequestedRangeNotSatisfiable:
		return content.ErrRange
	}
	return content.ErrStatus
}

// A described error has a text of its own: that of its cause without secrets, or another
// one that says more.
type described struct {
	text string
	err  error // the cause
}

func (e *described) Error() string { return e.text }
func (e *described) Unwrap() error { return e.err }

// fail makes the error of a host. cause may quote what strangers sent.
func fail(kind content.Kind, host string, cause error, secrets ...string) *content.Error {
	e := &content.Error{Kind: kind, Host: redact.Text(host, secrets...)}
	if cause == nil {
		return e
	}
	var status *StatusError
	if errors.As(cause, &status) {
		e.RetryAfter = status.RetryAfter
	}
	e.Err = &described{redact.Text(cause.Error(), secrets...), cause}
	return e
}

func failf(kind content.Kind, host, format string, args ...any) *content.Error {
	return fail(kind, host, fmt.Errorf(format, args...))
}

// quote quotes at most n bytes of what a stranger sent. Secrets are masked before
// it is cut, because half a secret is not recognised any more.
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

// failTrip is the error of a request that got no answer.
func failTrip(ctx context.Context, host string, err error, secrets []string) error {
	switch {
	case errors.Is(context.Cause(ctx), errStalled):
		return fail(content.ErrTimeout, host, errStalled, secrets...)
	case ctx.Err() != nil:
		return canceled(ctx, redact.Secrets(host, secrets...))
	}
	var refused *content.Error
	if errors.As(err, &refused) && refused.Kind == content.ErrForbiddenURL { // see forbidden
		return fail(refused.Kind, host, refused.Err, secrets...)
	}
	if isTLS(err) {
		return fail(content.ErrTLS, host, err, secrets...)
	}
	return fail(content.ErrNetwork, host, err, secrets...)
}

// canceled is the error when the caller gave up.
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

// isTLS reports whether err is about the TLS handshake itself, not about the
// connection below it.
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

// tooEarly is what the caller gets for an end that comes too early.
func tooEarly(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// onlyByCase reports whether an upper-case letter alone makes the part of a name before
// the first slash a registry.
func onlyByCase(registry string) bool {
	return !strings.ContainsAny(registry, ".:") && !strings.EqualFold(registry, "localhost") && registry != strings.ToLower(registry)
}

// noSuchHost reports whether err says that a name does not exist, and not that no
// resolver could be asked.
func noSuchHost(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound && !dns.IsTemporary && !dns.IsTimeout
}

// fieldValue reports whether a header can carry v (RFC 9110, section 5.5). The Client
// checks this itself, because the error that net/http has for it looks like one of the
// network.
func fieldValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// fieldName reports whether a header can have the name (RFC 9110, section 5.1).
func fieldName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

// checkHeader checks headers that a configuration sets. The error does not show
// values, which may be secrets.
func checkHeader(h http.Header) error {
	for name, values := range h {
		if !fieldName(name) {
			return fmt.Errorf("header %.80q has a name that no header can have", name)
		}
		for _, v := range values {
			if !fieldValue(v) {
				return fmt.Errorf("header %.80q has characters that no header can carry", name)
			}
		}
	}
	return nil
}
