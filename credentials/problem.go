package credentials

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/reference"
)

// An EntryError says that one entry of a source was left out, and why; or, if it
// wraps a [Reason] that is a warning, what should be known of one that was not. It never holds the
// entry's content.
type EntryError struct {
	Origin Origin // of the entry; without a Key if all of the source was left out
	Err    error
}

// Error says which entry, and what is the matter with it.
func (e *EntryError) Error() string { return fmt.Sprintf("%v: %v", e.Origin, e.Err) }

// Unwrap returns the reason.
func (e *EntryError) Unwrap() error { return e.Err }

// A Reason says what is wrong with a source, an entry or a program. The errors of this
// package wrap one of the reasons below where a caller may have to distinguish them.
type Reason string

// Error returns the reason itself.
func (r Reason) Error() string { return string(r) }

// Warning reports whether r is said of a source or an entry that is not malformed: it is
// used although something about it looks wrong, or it gives no credential although it
// was brought to give one. Unlike the other reasons, a warning never fails a pull by
// itself, whatever the rules.
func (r Reason) Warning() bool {
	switch r {
	case ErrReadableByOthers, ErrSpelledTwice, ErrByteOrderMark, ErrHelperNotAsked, ErrGivesNothing, ErrKeyMatchesNothing, ErrLooksWrong:
		return true
	}
	return false
}

// The warnings. The text of each says what follows; what is before it in an error says
// what was found, and what to do.
const (
	// ErrReadableByOthers is said of a file by [ReadFile] and [FindFile], but not on
	// Windows.
	ErrReadableByOthers Reason = "can be read by other users: chmod 600 keeps its credentials private"
	// ErrSpelledTwice is said of a document whose auths objects add up here.
	ErrSpelledTwice Reason = "auths is in it twice, spelled with other letters: other readers take only one of the two"
	// ErrByteOrderMark is said of a document that begins with a byte order mark, as
	// editors on Windows write it. It is an error under the kubelet's rules.
	ErrByteOrderMark Reason = "begins with a byte order mark (U+FEFF), which is skipped here, but which the kubelet refuses: save it as UTF-8 without one"
	// ErrHelperNotAsked is said of a file that names credential helpers and was not
	// given them by [File.WithHelpers].
	ErrHelperNotAsked Reason = "it was not asked, because reading a file starts no program: File.WithHelpers asks it"
	// ErrGivesNothing is said of a Secret, a file or an entry that was brought and
	// has no credential that could be read.
	ErrGivesNothing Reason = "it gives no credential"
	// ErrKeyMatchesNothing is said of an entry whose key cannot be what was meant:
	// it matches no image, or only images that few registries have.
	ErrKeyMatchesNothing Reason = "its credential is used for no other image"
	// ErrLooksWrong is said of a login that is used as it is written although it
	// looks as if an editor, a shell or a template had changed it.
	ErrLooksWrong Reason = "it is used as it is written"
)

// What is wrong with a Secret, as [Secret.Validate] says it.
const (
	// ErrSecretBase64 is what kubectl says of a manifest whose data cannot be decoded.
	ErrSecretBase64 Reason = "no objects passed to create"
	// ErrSecretContent is what the API server says of data that can be decoded,
	// but is not a credential file.
	ErrSecretContent Reason = "invalid value"
	// ErrSecretRequired is what the API server says of a Secret without the data
	// that its type promises.
	ErrSecretRequired Reason = "required value"
)

// How a helper or plugin failed.
const (
	ErrProgramMissing Reason = "program not found"
	// ErrProgramStart says that the program's file is there, but cannot be run.
	ErrProgramStart   Reason = "program cannot be started"
	ErrProgramTimeout Reason = "program did not answer in time"
	ErrProgramOutput  Reason = "program wrote more than it may"
	ErrProgramFailed  Reason = "program failed"
	ErrProgramAnswer  Reason = "program's answer is malformed"
)

// A problem is an EntryError with what a keyring's Explain needs to know of it.
type problem struct {
	*EntryError
	about     []pattern // only images that one of them matches are concerned; nil means all
	aside     bool      // it explains no failed pull
	withEntry bool      // the note of the entry itself says it
}

// concerns reports whether p may be why there is no good credential for an image.
func (p *problem) concerns(t target) bool {
	return !p.aside && (p.about == nil || slices.ContainsFunc(p.about, func(k pattern) bool { return k.match(t) == matched }))
}

// A problemList is what a source has to say besides its credentials.
type problemList []problem

// errors returns what Problems lists.
func (ps problemList) errors() []error {
	var errs []error
	for _, p := range ps {
		errs = append(errs, p.EntryError)
	}
	return errs
}

// all yields a note for each problem.
func (ps problemList) all() iter.Seq[Note] {
	return func(yield func(Note) bool) {
		for _, p := range ps {
			if !yield(p.note()) {
				return
			}
		}
	}
}

// notes yields a note for each problem that may concern ref and that no note of an
// entry says.
func (ps problemList) notes(rules Rules, ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		t, err := rules.target(ref.Name())
		if err != nil {
			return
		}
		for _, p := range ps {
			if !p.withEntry && p.concerns(t) && !yield(p.note()) {
				return
			}
		}
	}
}

// note is the note of a problem that has no entry.
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

// warning is a reason that is a warning, with what was found before it.
func warning(r Reason, found string) error { return fmt.Errorf("%s; %w", found, r) }

// A leftOutError lists what a call had to leave out, in one line.
type leftOutError struct{ errs []error }

// Error names the first few.
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

// Unwrap returns them all.
func (e *leftOutError) Unwrap() []error { return e.errs }

// maxQuoted is the number of bytes of outside input that an error text repeats.
const maxQuoted = 120

// quote makes a text from outside fit for an error: control characters are
// escaped and the length is bounded.
func quote(s string) string { return redact.Quote(s, maxQuoted) }
