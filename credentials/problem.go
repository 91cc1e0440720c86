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

// An EntryError says that one entry of a source, or a whole source, was left out, and why.
// If it wraps a [Reason] that is a warning, the entry was not left out, and the error says
// what looks wrong with it. An EntryError never holds the content of the entry.
type EntryError struct {
	Origin Origin // of the entry; without a Key if the error is about the whole source
	Err    error  // what is wrong
}

// Error returns a text that says which entry it is, and what is wrong with it.
func (e *EntryError) Error() string { return fmt.Sprintf("%v: %v", e.Origin, e.Err) }

// Unwrap returns e.Err.
func (e *EntryError) Unwrap() error { return e.Err }

// A Reason says what is wrong with a source, an entry or a program. The errors of this
// package wrap one of the reasons below where a caller may have to distinguish them.
type Reason string

// Error returns the text of r.
func (r Reason) Error() string { return string(r) }

// Warning reports whether r is a warning: a reason for a source or an entry that is not
// malformed. The source or entry is used although something about it looks wrong, or it
// does not give a credential. A warning never makes a pull fail by itself, under the
// kubelet's rules either.
func (r Reason) Warning() bool {
	switch r {
	case ErrReadableByOthers, ErrSpelledTwice, ErrByteOrderMark, ErrHelperNotAsked, ErrGivesNothing, ErrKeyMatchesNothing, ErrLooksWrong:
		return true
	}
	return false
}

// The warnings. In the text of an error, the reason follows a text that says what was
// found and what to do.
const (
	// ErrReadableByOthers is the reason for a file that other users can read, from
	// [ReadFile] and [FindFile]. It is not reported on Windows.
	ErrReadableByOthers Reason = "can be read by other users: chmod 600 keeps its credentials private"
	// ErrSpelledTwice is the reason for a document with two auths objects whose names
	// differ only in case. This package reads the entries of both.
	ErrSpelledTwice Reason = "auths is in it twice, in different upper and lower case: other readers take only one of the two"
	// ErrByteOrderMark is the reason for a document that begins with a byte order mark,
	// which editors on Windows write. Under the kubelet's rules such a document is
	// malformed.
	ErrByteOrderMark Reason = "begins with a byte order mark (U+FEFF), which is skipped here, but which the kubelet refuses: save it as UTF-8 without one"
	// ErrHelperNotAsked is the reason for a file that names credential helpers and that
	// is used without [File.WithHelpers].
	ErrHelperNotAsked Reason = "it was not asked, because reading a file starts no program: File.WithHelpers asks it"
	// ErrGivesNothing is the reason for a Secret, a file or an entry in which there is
	// not a credential that could be read.
	ErrGivesNothing Reason = "it gives no credential"
	// ErrKeyMatchesNothing is the reason for an entry whose key is probably a mistake,
	// because it matches no image, or only images that few registries have.
	ErrKeyMatchesNothing Reason = "its credential is used for no other image"
	// ErrLooksWrong is the reason for a login that looks as if an editor, a shell or a
	// template had changed it. The login is used as it is written.
	ErrLooksWrong Reason = "it is used as it is written"
)

// The reasons that a [SecretError] of [Secret.Validate] has.
const (
	// ErrSecretBase64 is the reason for a manifest whose data is not base64. Its text is
	// that of kubectl.
	ErrSecretBase64 Reason = "no objects passed to create"
	// ErrSecretContent is the reason for data that is base64, but not of a credential
	// file. Its text is that of the API server.
	ErrSecretContent Reason = "invalid value"
	// ErrSecretRequired is the reason for a Secret without the data that its type
	// requires. Its text is that of the API server.
	ErrSecretRequired Reason = "required value"
)

// The reasons for which a helper or a plugin gives no answer. A [SourceError] wraps one of
// them.
const (
	// ErrProgramMissing is the reason for a program that is not there.
	ErrProgramMissing Reason = "program not found"
	// ErrProgramStart is the reason for a program whose file is there, but cannot be run.
	ErrProgramStart Reason = "program cannot be started"
	// ErrProgramTimeout is the reason for a program that was killed at its time limit.
	ErrProgramTimeout Reason = "program did not answer in time"
	// ErrProgramOutput is the reason for a program that was killed at the limit of its
	// output.
	ErrProgramOutput Reason = "program wrote more than it may"
	// ErrProgramFailed is the reason for a program that ended with an error.
	ErrProgramFailed Reason = "program failed"
	// ErrProgramAnswer is the reason for a program whose output cannot be read.
	ErrProgramAnswer Reason = "program's answer is malformed"
)

// A problem is an EntryError with what a keyring's Explain needs to know about it.
type problem struct {
	*EntryError
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
		errs = append(errs, p.EntryError)
	}
	return errs
}

// all yields a note for each problem.
func (ps problemList) all() iter.Seq[Note] {
	return ps.some(func(*problem) bool { return true })
}

// maxProblems bounds the problems of one source that are listed.
const maxProblems = 100

// some yields a note for each problem that is wanted, the first of each source, and then
// one for each source that has more.
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
				m = &moreProblems{first: p.Err}
				more[source] = m
				sources = append(sources, source)
			}
			if m.count++; isWarning(m.first) && !isWarning(p.Err) {
				m.first = p.Err
			}
		}
		for _, source := range sources {
			if !yield(Note{Origin: source, Why: more[source].Error(), Err: &EntryError{source, more[source]}}) {
				return
			}
		}
	}
}

// moreProblems says how many problems of a source are not listed. It is a warning if all of
// them are.
type moreProblems struct {
	count int
	first error // of them; the first that is not a warning, if there is one
}

func (e *moreProblems) Error() string {
	return fmt.Sprintf("there are %d more problems, which are not listed", e.count)
}

func (e *moreProblems) Unwrap() error { return e.first }

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
	if !isWarning(p.Err) {
		why = "left out: " + why
	}
	return Note{Origin: p.Origin, Why: why, Err: p.EntryError}
}

func isWarning(err error) bool {
	var r Reason
	return errors.As(err, &r) && r.Warning()
}

// warning returns an error that wraps r. Its text is found, which says what was found, and
// then the text of r.
func warning(r Reason, found string) error { return fmt.Errorf("%s; %w", found, r) }

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
