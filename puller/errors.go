package puller

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// A Reason says why a pull did not succeed, spelled as in a container status. A Reason is
// itself an error, so that errors.Is(err, puller.ErrImagePullBackOff) works.
type Reason string

// Error returns the reason's name.
func (r Reason) Error() string { return string(r) }

// Verdict returns how far an attempt got if it ended with this reason; see [Error]. It
// returns "" for a reason that does not say how far the attempt got.
func (r Reason) Verdict() credentials.Verdict {
	switch r {
	case ErrRegistryUnavailable:
		return credentials.VerdictUnavailable
	case ErrSignatureValidation:
		return credentials.VerdictAnswered
	}
	return ""
}

// The reasons of the kubelet.
const (
	ErrImagePull           Reason = "ErrImagePull"
	ErrImagePullBackOff    Reason = "ImagePullBackOff"
	ErrImageNeverPull      Reason = "ErrImageNeverPull"
	ErrImageInspect        Reason = "ImageInspectError"
	ErrInvalidImageName    Reason = "InvalidImageName"
	ErrRegistryUnavailable Reason = "RegistryUnavailable"
	ErrSignatureValidation Reason = "SignatureValidationFailed"
)

// A RetryError says that the registry asked every client to wait. A Runtime returns an
// error that wraps it. Then no other credential is tried, and the back-off lasts at least
// After. An After of more than a day counts as a day.
type RetryError struct {
	After time.Duration
	Err   error
}

// Error returns the text of Err. The text of an [Error] also says when the next pull may
// be tried, which depends on both After and the back-off.
func (e *RetryError) Error() string {
	if e.Err == nil {
		return "the registry asked to wait for " + e.After.String()
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *RetryError) Unwrap() error { return e.Err }

// Verdict is credentials.VerdictUnavailable: the registry asked every client to wait.
func (e *RetryError) Verdict() credentials.Verdict { return credentials.VerdictUnavailable }

// maxRetryAfter is the longest wait that a server may ask for. Without a limit, a
// mistyped header could block an image until the process ends.
const maxRetryAfter = 24 * time.Hour

// An Error says why a call of a Puller returned no image. It does not change after it is
// returned.
//
// A pull that tried several credentials has one verdict: the answer to the credential that
// got furthest, in the order that credentials.AttemptsError documents. errors.Is,
// content.ReasonOf and credentials.VerdictOf go by this verdict. After 401 for a stale
// credential and 404 for a valid one the image does not exist: the error is an
// fs.ErrNotExist and not an fs.ErrPermission. A failed connection, 429 and 5xx take
// precedence over all other answers, because a later pull may work. Attempts and Answers
// list all answers. The verdict is "" if the registry was not asked. The verdict of a
// back-off is that of Previous.
type Error struct {
	// Reason is one of the constants. It is "" if the kubelet has no reason for the failure:
	// the request itself is unusable, or the secrets could not be read under
	// Kubelet.FailOnBadSecret.
	Reason Reason
	Image  string // as written in the request, without user:password@
	// RetryAfter is how long the caller has to wait before the next call, because of the
	// back-off or because the registry asked for it; 0 if a wait does not help.
	RetryAfter time.Duration
	// Attempts has one entry for each credential that was tried and for each source that
	// could not answer, in order. It is empty if the registry was not asked.
	Attempts []credentials.Attempt
	// Hints names entries in the keyrings of the request and the node that were not used or
	// look wrong. One of them may be the cause why no credential helped: a Secret that gives
	// no credential, a helper that was not asked, a key that matches no image. Each hint is a
	// *credentials.Error. Hints are part of the text of an ErrImagePull, and are not wrapped.
	Hints []error
	// Previous is the failure before a back-off, or the failure after which PullWait waited
	// when its context ended; nil otherwise.
	Previous *Error
	// Err is the cause. It is nil if Reason and Previous say all that is known.
	Err error
}

// Error returns one line: what failed, why, and what to do about it.
func (e *Error) Error() string {
	text := "image " + quote(e.Image) + ": "
	if e.Image == "" && e.Reason == ErrImagePull { // PullAll's last result, for images that were not started
		text = ""
	}
	if e.Reason != "" {
		text += string(e.Reason) + ": "
	}
	return text + e.cause()
}

// The causes of ErrImageNeverPull. The caller of Pull gets the first text in both cases;
// Explain distinguishes them.
const (
	absentUnderNever   = "not present, and the pull policy is Never"
	notYoursUnderNever = "not for this Pod, and the pull policy is Never"
)

// cause is the part of the text that follows the reason.
func (e *Error) cause() string {
	switch {
	case e.Reason == ErrImageNeverPull:
		return absentUnderNever
	case e.Reason == ErrImagePullBackOff:
		return "next try in " + round(e.RetryAfter).String() + e.previousText()
	case len(e.Attempts) > 0:
		return attemptsText(e.Attempts) + e.hintsText() + e.retryText()
	case e.Err != nil:
		return redact.Text(e.withoutName()) + e.retryText() + e.previousText()
	}
	return "failed"
}

// withoutName is the text of Err. If the text starts with the image's name, withoutName
// leaves that name out, because Error has written it already.
func (e *Error) withoutName() string {
	text := e.Err.Error()
	var parse *reference.ParseError
	if errors.As(e.Err, &parse) {
		return strings.TrimPrefix(text, fmt.Sprintf("image name %q: ", parse.Input))
	}
	return text
}

func (e *Error) previousText() string {
	if e.Previous == nil {
		return ""
	}
	previous := *e.Previous
	previous.RetryAfter = 0 // the text has the wait from now on, which is shorter
	return "; the last try ended with " + string(previous.Reason) + ": " + previous.cause()
}

// hintsText lists the hints if the reason is ErrImagePull. They do not help if the
// registry could not be asked, or if a signature is wrong.
func (e *Error) hintsText() string {
	if e.Reason != ErrImagePull || len(e.Hints) == 0 {
		return ""
	}
	var texts []string
	for i, err := range e.Hints {
		if i == maxTexts {
			texts = append(texts, fmt.Sprintf("%d more", len(e.Hints)-i))
			break
		}
		texts = append(texts, redact.Text(err.Error()))
	}
	return "; hint: " + strings.Join(texts, "; ")
}

// retryText says when the next pull may be tried, if the registry asked to wait. It leaves
// out an ordinary back-off, because that says nothing about this failure.
func (e *Error) retryText() string {
	var retry *RetryError
	if !errors.As(e.Err, &retry) || e.RetryAfter <= 0 {
		return ""
	}
	return "; next try in " + round(e.RetryAfter).String()
}

// Unwrap returns the reason and every cause, for errors.Is and errors.As. For a back-off
// it also returns the cause of Previous, but not the reason of Previous, because an error
// has one reason.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Reason != "" {
		errs = append(errs, e.Reason)
	}
	for _, err := range []error{e.Err, e.Previous.unreasoned()} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (e *Error) unreasoned() error {
	if e == nil {
		return nil
	}
	return e.Err
}

// Message returns the text that the kubelet would write, with Reason, into the status of
// the container that waits for the image. It is shorter than what Error returns, because
// it does not name the credentials.
func (e *Error) Message() string {
	switch e.Reason {
	case ErrImageNeverPull:
		return fmt.Sprintf("Container image %q is not present with pull policy of Never", redact.Cut(e.Image, maxName))
	case ErrInvalidImageName:
		return fmt.Sprintf("Failed to apply default image tag %q: %v", redact.Cut(e.Image, maxName), e.Err)
	case ErrImageInspect:
		return fmt.Sprintf("Failed to inspect image %q: %s", redact.Cut(e.Image, maxName), e.text())
	case ErrImagePullBackOff:
		text := fmt.Sprintf("Back-off pulling image %q", redact.Cut(e.Image, maxName))
		if e.Previous != nil {
			text += fmt.Sprintf(": %s: %s", e.Previous.Reason, e.Previous.Message())
		}
		return text
	case ErrRegistryUnavailable:
		return fmt.Sprintf("image pull failed for %s because the registry is unavailable%s", redact.Cut(e.Image, maxName), detail(e.text(), e.Reason))
	case ErrSignatureValidation:
		return fmt.Sprintf("image pull failed for %s because the signature validation failed%s", redact.Cut(e.Image, maxName), detail(e.text(), e.Reason))
	}
	return e.text()
}

// detail returns the text of a cause without the reason at its start.
func detail(text string, reason Reason) string {
	text = strings.TrimPrefix(strings.TrimPrefix(text, string(reason)), ": ")
	if text == "" {
		return ""
	}
	return ": " + text
}

// text returns the causes as the kubelet joins them. One text stays as it is. Several
// texts become [a, b], with each text once.
func (e *Error) text() string {
	if len(e.Attempts) == 0 {
		if e.Err == nil {
			return string(e.Reason)
		}
		return redact.Text(e.Err.Error())
	}
	var texts []string
	seen := map[string]bool{}
	for _, a := range e.Attempts {
		if text := redact.Text(a.Err.Error()); !seen[text] {
			seen[text] = true
			texts = append(texts, text)
		}
	}
	if len(texts) == 1 {
		return texts[0]
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// maxTexts is how many attempts an error's text lists.
const maxTexts = 10

func attemptsText(attempts []credentials.Attempt) string {
	var texts []string
	for i, a := range attempts {
		if i == maxTexts {
			texts = append(texts, fmt.Sprintf("%d more", len(attempts)-i))
			break
		}
		texts = append(texts, redact.Text(a.String()))
	}
	return strings.Join(texts, "; ")
}

// round returns a duration rounded up, so that a text never names a wait that is too
// short.
func round(d time.Duration) time.Duration {
	unit := time.Millisecond
	if d >= 10*time.Second {
		unit = time.Second
	}
	return (d + unit - 1).Truncate(unit)
}

// maxName is how many bytes of an image's name a text has at most.
const maxName = 300

func quote(s string) string { return redact.Quote(s, maxName) }

// An Answer is the result of one attempt of a pull, as a value for programs and for
// output. It holds no secret.
//
// Host, Status and Codes come from the Runtime's error, if it is a content.Error.
type Answer struct {
	From               string `json:"from"` // Origin, human-readable
	credentials.Origin        // of the credential; zero for an anonymous attempt
	// SourceFailed says that no credential was tried, because the source could not give one.
	SourceFailed bool     `json:"source,omitempty"`
	Host         string   `json:"host,omitempty"`   // host[:port] that answered
	Status       int      `json:"status,omitempty"` // HTTP status
	Codes        []string `json:"codes,omitempty"`  // the registry's own: UNAUTHORIZED, DENIED, ...
	Error        string   `json:"error,omitempty"`  // "" if the attempt succeeded
}

// String returns From and Error, with a colon between them.
func (a Answer) String() string { return strings.TrimSuffix(a.From+": "+a.Error, ": ") }

// Answers returns the result of each attempt, in order.
func (e *Error) Answers() []Answer {
	var out []Answer
	for _, a := range e.Attempts {
		out = append(out, newAnswer(a))
	}
	return out
}

func newAnswer(a credentials.Attempt) Answer {
	answer := Answer{From: a.Origin.String(), Origin: a.Origin, SourceFailed: a.SourceFailed}
	if a.Err == nil {
		return answer
	}
	// The error of a helper or of a plugin begins with the origin, as From does.
	text := a.Err
	var source *credentials.Error
	if errors.As(text, &source) && source.Image != "" && source.Origin == a.Origin {
		text = source.Err
	}
	answer.Error = redact.Text(text.Error())
	var server *content.Error
	for err := a.Err; errors.As(err, &server); err = server.Err { // of errors in errors, the outermost value counts
		answer.Host = cmp.Or(answer.Host, redact.Text(server.Host))
		if answer.Status == 0 && server.Status != 0 {
			answer.Status = server.Status
			for _, code := range server.Codes {
				answer.Codes = append(answer.Codes, redact.Text(code))
			}
		}
	}
	return answer
}

// A PanicError is the value of the panic of a call of a Puller, if a callback has panicked
// in another goroutine than the caller's. It wraps Value if Value is an error.
type PanicError struct {
	Value any    // what the callback panicked with
	Stack []byte // of the callback's goroutine, as debug.Stack returns it
}

// Error returns the value and the stack as text. A process that does not recover prints
// this text.
func (e *PanicError) Error() string {
	return (&panics.Error{Value: e.Value, Stack: e.Stack}).Error()
}

// Unwrap returns Value if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// carryPanic replaces the value of a panic that comes from another goroutine by a
// PanicError. The exported methods of a Puller defer it. Other panics go on unchanged.
func carryPanic() {
	switch v := recover().(type) {
	case nil:
	case *panics.Error:
		panic(&PanicError{Value: v.Value, Stack: v.Stack})
	default:
		panic(v)
	}
}
