package reference

import (
	"fmt"

	"github.com/pullkit/pullkit/internal/redact"
)

// A Part is the part of a name that a [ParseError] is about.
type Part string

// The parts of a name, in order.
const (
	PartRegistry   Part = "registry"
	PartRepository Part = "repository"
	PartTag        Part = "tag"
	PartDigest     Part = "digest"
)

// A Reason says why a name is refused. Test for one with errors.Is, or switch
// on [ParseError.Err].
type Reason string

// The reasons for which names are refused.
const (
	ErrMissing    Reason = "missing"                                         // nothing stands where the part, or the rest of it, must
	ErrCharacter  Reason = "character not allowed"                           // none of the reasons below
	ErrSpace      Reason = "white space"                                     // also zero-width space and byte order mark
	ErrUpperCase  Reason = "upper case letter"                               // in a repository
	ErrSeparator  Reason = "separator that is not between letters or digits" // . _ - at an end, doubled or mixed
	ErrUnderscore Reason = "underscore in a registry"                        // foo_bar.com/x: see the package comment
	ErrPort       Reason = "port that is not a number"                       // after the registry
	ErrTooLong    Reason = "too long"                                        // repository over 255 bytes, tag over 128
	ErrImageID    Reason = "64 hex digits are an image ID, not a name"       // the whole name
	ErrAlgorithm  Reason = "unknown digest algorithm"                        // well-formed, but none of sha256, sha384, sha512
	ErrDigest     Reason = "malformed digest"                                // wrong length, not lower-case hex, no algorithm
	ErrScheme     Reason = "scheme"                                          // https:// and the like
	ErrTemplate   Reason = "variable or template left in"                    // $(ARCH), ${TAG}, {{ .Values.image }}
	ErrUserinfo   Reason = "user name or password"                           // user:password@registry/repository
	ErrNotHost    Reason = "not seen as a registry in a name"                // from [Reference.WithRegistry] and [Parser]
	ErrPinned     Reason = "has a digest"                                    // from [Reference.WithArch]
)

// Error returns the reason's text.
func (r Reason) Error() string { return string(r) }

// hint says what to do about the reason, where its text does not.
func (r Reason) hint() string {
	switch r {
	case ErrSpace:
		return "; remove it"
	case ErrUpperCase:
		return "; write it in lower case"
	case ErrUnderscore:
		return "; a host name has none, write its address or rename it"
	case ErrTooLong:
		return "; a repository has at most 255 bytes, a tag 128"
	case ErrImageID:
		return "; write the repository, then @sha256: and a manifest's digest"
	case ErrAlgorithm:
		return "; use sha256, sha384 or sha512"
	case ErrDigest:
		return "; write the algorithm, a colon and all its lower-case hex digits"
	case ErrScheme:
		return "; a name begins with the registry, leave the scheme out"
	case ErrTemplate:
		return "; fill it in before the name is used"
	case ErrUserinfo:
		return "; leave it out and give it as a credential"
	case ErrNotHost:
		return "; write localhost, or a host with a dot, a port or an upper-case letter"
	case ErrPinned:
		return "; the digest is of the image without the suffix"
	}
	return ""
}

// A ParseError says which byte of a name cannot be right, and why. The text
// quotes the name, cut at 300 bytes.
type ParseError struct {
	// Input is the text that was refused, with [redacted] in place of what may
	// be user:password before an @.
	Input string
	// Offset counts bytes of the text as it was given, from 0. It is the
	// text's length where something is missing at the end, and a digest's
	// first byte for all that can be wrong with a digest. Error counts bytes
	// of Input.
	Offset int
	// Part is the part of the name that Offset is in.
	Part Part
	// Err is a [Reason].
	Err error

	what  string // what Input is, if it is not a whole image name
	shift int    // from Offset to the place in Input
}

// Error describes the error and says what to do about it.
func (e *ParseError) Error() string {
	what, where := "image name", string(e.Part)+" at byte"
	if e.what != "" {
		what, where = e.what, "byte"
	}
	hint := ""
	if r, ok := e.Err.(Reason); ok {
		hint = r.hint()
	}
	return fmt.Sprintf("%s %s: %s %d: %v%s", what, quote(e.Input), where, e.Offset+e.shift, e.Err, hint)
}

// Unwrap returns the reason, for errors.Is.
func (e *ParseError) Unwrap() error { return e.Err }

// quote quotes s, or the beginning of it and how long s is.
func quote(s string) string {
	const limit = 300
	quoted := redact.Quote(s, limit)
	if len(s) > limit {
		quoted += fmt.Sprintf(" (%d bytes)", len(s))
	}
	return quoted
}
