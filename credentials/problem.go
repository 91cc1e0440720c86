package credentials

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/reference"
)

// An Error says what is wrong with a source of credentials, with one entry of it, or with a
// key. There are these kinds:
//
//   - A source or an entry that was left out because it is malformed. [Problems] lists it.
//   - A source or an entry about which something looks wrong, but which was not left out.
//     [Problems] lists it, unless it can be right for other images, and [Error.Warning]
//     returns true.
//   - A helper or a plugin that could not answer for an image. Lookup yields it, and Image is
//     not "".
//   - A malformed key or name of an image, from a function that takes one. Origin has only
//     the Key.
//
// An Error never holds the content of a source.
type Error struct {
	Origin Origin // of the source, with a Key if the error is about one entry
	Err    error  // what is wrong
	Image  string // the image, without tag and digest, for which the source could not answer; "" in all other kinds
}

// Error returns a text that says where something is wrong, and what.
func (e *Error) Error() string {
	where := e.Origin.String()
	if e.Origin == (Origin{Key: e.Origin.Key}) {
		where = "key " + quote(e.Origin.Key)
	}
	if e.Image != "" {
		where += ", for image " + quote(e.Image)
	}
	return fmt.Sprintf("%s: %v", where, e.Err)
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Warning reports whether e is a warning: whether its source or entry is not malformed. The
// source or entry is used although something about it looks wrong, or it does not give a
// credential. A warning never makes a pull fail by itself, not even under the kubelet's rules.
func (e *Error) Warning() bool {
	var reason Reason
	return errors.As(e.Err, &reason) && reasons[reason]
}

// A Reason says what is wrong with a source, an entry or a program. The errors of this
// package wrap one of the reasons below where a program may have to distinguish them. The
// text of an error says more than its reason.
type Reason string

// Error returns the text of r.
func (r Reason) Error() string { return string(r) }

// reasons says of each Reason whether it is a warning: a reason for a source or an entry
// that is not malformed.
var reasons = map[Reason]bool{
	ErrReadableByOthers: true,
	ErrHelperNotAsked:   true,
	ErrGivesNothing:     true,
	ErrLooksWrong:       true,
	ErrOtherImages:      true,
	ErrSecretInvalid:    false,
	ErrProgramStart:     false,
	ErrProgramTimeout:   false,
	ErrProgramFailed:    false,
}

// The warnings.
const (
	// ErrReadableByOthers is the reason for a file that other users can read, from
	// [ReadFile] and [FindFile]. It is not reported on Windows.
	ErrReadableByOthers Reason = "can be read by other users: chmod 600 keeps its credentials private"
	// ErrHelperNotAsked is the reason for a file that names credential helpers and that
	// is used without [File.WithHelpers].
	ErrHelperNotAsked Reason = "it was not asked, because reading a file starts no program: File.WithHelpers asks it"
	// ErrGivesNothing is the reason for a Secret, a file or an entry that has no
	// credential which can be read.
	ErrGivesNothing Reason = "it gives no credential"
	// ErrLooksWrong is the reason for a source or an entry that is used as it is written,
	// and is probably a mistake: a login that an editor, a shell or a template seems to
	// have changed, a key that matches no image, or only images that few registries
	// have, or a document that other readers refuse or read differently.
	ErrLooksWrong Reason = "it is used as it is written"
	// ErrOtherImages is the reason for an entry whose key has the registry's host, but
	// another port or path than the image. Only [Explainer] reports it, and only if no other
	// entry of the same file, or of the same Secrets, is for the image.
	ErrOtherImages Reason = "it is for other images"
)

// Reasons for which something cannot be used.
const (
	// ErrSecretInvalid is the reason for a Secret that kubectl or the API server refuses,
	// from [Secret.Validate].
	ErrSecretInvalid Reason = "invalid Secret"
	// ErrProgramStart is the reason for a helper or a plugin that is not there, or that
	// cannot be run.
	ErrProgramStart Reason = "program cannot be started"
	// ErrProgramTimeout is the reason for a helper or a plugin that was killed at its time
	// limit.
	ErrProgramTimeout Reason = "program did not answer in time"
	// ErrProgramFailed is the reason for a helper or a plugin that ended with an error, or
	// wrote more than it may, or wrote an answer that cannot be read.
	ErrProgramFailed Reason = "program failed"
)

// A detail is an error with a text of its own that wraps a reason.
type detail struct {
	text   string
	reason Reason
}

func (d *detail) Error() string { return d.text }
func (d *detail) Unwrap() error { return d.reason }

var (
	errSpelledTwice   = &detail{"auths is in it twice, in different upper and lower case: other readers take only one of the two", ErrLooksWrong}
	errByteOrderMark  = &detail{"begins with a byte order mark (U+FEFF), which is skipped here, but which the kubelet refuses: save it as UTF-8 without one", ErrLooksWrong}
	errKeyMatches     = &detail{"its credential is used only for images that the key matches", ErrLooksWrong}
	errProgramMissing = &detail{"program not found", ErrProgramStart}
	errProgramOutput  = &detail{"program wrote more than it may", ErrProgramFailed}
	errProgramAnswer  = &detail{"program's answer is malformed", ErrProgramFailed}
)

// A problem is an Error with what a keyring's Explain needs to know about it.
//
// The code that reads a source raises a problem with entries.problem, or with
// entries.aboutEntry if the problem concerns only the images that the entry's key matches. If
// the source or the entry is used nevertheless, the error is made by the function warning,
// from a Reason that is a warning in the table reasons. An error without such a Reason says
// that the source or the entry was left out.
type problem struct {
	*Error
	about     []keys.Pattern // the problem concerns only the images that one of these matches; nil means all images
	aside     bool           // the problem never explains why a pull fails
	withEntry bool           // the note about the entry itself reports the problem
}

// concerns reports whether p may be the reason for which an image has no good credential.
func (p *problem) concerns(t keys.Name) bool {
	return !p.aside && (p.about == nil || slices.ContainsFunc(p.about, func(k keys.Pattern) bool { return k.Match(t) == keys.Matched }))
}

// A problemList holds the problems of one source.
type problemList []problem

// errors returns the errors that Problems lists.
func (ps problemList) errors() []error {
	var errs []error
	for _, p := range ps {
		errs = append(errs, p.Error)
	}
	return errs
}

// all yields a note for each problem.
func (ps problemList) all() iter.Seq[Note] {
	return ps.some(func(*problem) bool { return true })
}

// maxProblems bounds the problems of one source that are listed.
const maxProblems = 100

// some yields notes for the problems for which wanted is true: one for each of the first
// maxProblems problems of a source, and then one for each source that has more.
func (ps problemList) some(wanted func(*problem) bool) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		count := map[Origin]int{}
		more := map[Origin]*moreProblems{}
		var sources []Origin // that have more
		for i := range ps {
			p := &ps[i]
			if !wanted(p) {
				continue
			}
			source := p.Origin
			source.Key = ""
			if count[source]++; count[source] <= maxProblems {
				if !yield(p.note()) {
					return
				}
				continue
			}
			m := more[source]
			if m == nil {
				m = &moreProblems{first: p.Error}
				more[source] = m
				sources = append(sources, source)
			}
			if m.count++; m.first.Warning() && !p.Warning() {
				m.first = p.Error
			}
		}
		for _, source := range sources {
			if !yield(Note{Origin: source, Why: more[source].Error(), Err: &Error{Origin: source, Err: more[source]}}) {
				return
			}
		}
	}
}

// moreProblems says how many problems of a source are not listed. It is a warning if all
// of these problems are warnings.
type moreProblems struct {
	count int
	first *Error // the first of these problems that is not a warning, or else the first of all
}

func (e *moreProblems) Error() string {
	return fmt.Sprintf("there are %d more problems, which are not listed", e.count)
}

func (e *moreProblems) Unwrap() error { return e.first.Err }

// notes yields a note for each problem that may concern ref. It leaves out those that the
// note about an entry reports.
func (ps problemList) notes(rules Rules, ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		t, err := rules.target(ref.Name())
		if err != nil {
			return
		}
		ps.some(func(p *problem) bool { return !p.withEntry && p.concerns(t) })(yield)
	}
}

// note returns the note of a problem that the note about an entry does not report.
func (p *problem) note() Note {
	why := p.Err.Error()
	if !p.Warning() {
		why = "left out: " + why
	}
	return Note{Origin: p.Origin, Why: why, Err: p.Error}
}

// warning returns an error that wraps reason. Its text is found, which says what was found,
// and then the text of reason.
func warning(reason error, found string) error { return fmt.Errorf("%s; %w", found, reason) }

// A leftOutError lists, in one line, the errors about all that a call left out.
type leftOutError struct{ errs []error }

// Error returns the texts of the first maxListed errors.
func (e *leftOutError) Error() string {
	var texts []string
	for i, err := range e.errs {
		if i == maxListed {
			texts = append(texts, fmt.Sprintf("%d more", len(e.errs)-i))
			break
		}
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns all of the errors.
func (e *leftOutError) Unwrap() []error { return e.errs }

// maxQuoted is the number of bytes of outside input that an error text repeats.
const maxQuoted = 120

// quote returns a text from outside in quotes, for an error: control characters are
// escaped, and what is longer than maxQuoted is cut off.
func quote(s string) string { return redact.Quote(s, maxQuoted) }
