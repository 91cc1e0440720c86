package index

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/redact"
)

// The kinds of errors of this package. Test for one with errors.Is.
var (
	// ErrNoMatch means that the document is valid, and that no entry fits the platform. See
	// [NoMatchError].
	ErrNoMatch = errors.New("no match")
	// ErrInvalid means that the document, or the entry that was chosen, cannot be used. See
	// [InvalidError].
	ErrInvalid = errors.New("invalid document")
	// ErrPlatform means that the requested platform is malformed or incomplete. See
	// [PlatformError].
	ErrPlatform = errors.New("invalid platform")
)

// A Reason says why a document is refused, or why an entry of an index is chosen or not.
// Test for one with errors.Is, or switch on [InvalidError.Reason] or [Verdict.Reason].
type Reason string

// The reasons for which documents are refused. Package content
// has the same reasons, with the same texts.
const (
	ErrTooLarge       Reason = "too large"             // more than MaxSize bytes
	ErrBadManifest    Reason = "bad manifest"          // bad JSON, ambiguous, or something is missing or malformed
	ErrBadIndex       Reason = "bad index"             // the same, for a document that is known to be an index
	ErrBadDigest      Reason = "bad digest"            // malformed, or of an algorithm that cannot be verified
	ErrMediaType      Reason = "unexpected media type" // neither an index nor a manifest, or Docker's schema 1
	ErrTooDeep        Reason = "too deep"              // indexes within indexes, beyond MaxDepth levels or MaxDocuments documents
	ErrDigestMismatch Reason = "digest mismatch"       // fetched content does not have the digest of its descriptor
	ErrSizeMismatch   Reason = "size mismatch"         // fetched content does not have the size of its descriptor
)

// Error returns the reason's text.
func (r Reason) Error() string { return string(r) }

// An InvalidError says why a document is refused. It matches [ErrInvalid] and its Reason.
type InvalidError struct {
	Reason Reason
	Detail string // what and where; parts of the document are quoted and cut
}

// Error returns the reason and the detail.
func (e *InvalidError) Error() string { return string(e.Reason) + ": " + e.Detail }

// Unwrap returns ErrInvalid and the reason, for errors.Is.
func (e *InvalidError) Unwrap() []error { return []error{ErrInvalid, e.Reason} }

func invalid(reason Reason, format string, args ...any) *InvalidError {
	return &InvalidError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// A PlatformError says what is wrong with the requested platform. It matches [ErrPlatform].
type PlatformError struct {
	Input  string // as given, or as FormatPlatform spells it
	Detail string // what is wrong with it, and what to write instead
}

// Error returns the input, quoted and cut, and the detail.
func (e *PlatformError) Error() string {
	return "platform " + redact.Quote(e.Input, 80) + ": " + e.Detail
}

// Is reports whether target is ErrPlatform.
func (e *PlatformError) Is(target error) bool { return target == ErrPlatform }

// A NoMatchError says that an index has no image for a platform, and which platforms it
// has. It matches [ErrNoMatch], and each Reason of LeftOut.
type NoMatchError struct {
	Want ocispec.Platform // the requested platform
	// Have are the platforms of the entries that are images or indexes. They are spelled as
	// in the index and in its order, each once. Escape them before you print them, because
	// they come from the registry.
	Have []ocispec.Platform
	// Empty says that the index has no entries.
	Empty bool
	// LeftOut counts the entries that are not images, for each reason: attestations,
	// artifacts, entries without media type and others.
	LeftOut map[Reason]int
	// Artifact is the digest of the first entry that is an artifact and names no
	// platform; "" if there is none. Such an entry is pulled by its digest.
	Artifact digest.Digest
}

// maxListed is how many platforms the text of a NoMatchError names.
const maxListed = 20

// Error names the requested platform, without its variant if no variant would help, and at
// most 20 platforms that the index has, each escaped and cut. If no entry is an image, Error
// says why, and how to pull an artifact.
func (e *NoMatchError) Error() string {
	var b strings.Builder
	b.WriteString("no match for ")
	b.WriteString(printable(e.missing()))
	switch {
	case e.Empty:
		b.WriteString("; the index is empty")
	case len(e.Have) == 0:
		b.WriteString(e.leftOut())
	default:
		b.WriteString("; available: ")
	}
	for i, p := range e.Have[:min(len(e.Have), maxListed)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(printable(p))
	}
	if more := len(e.Have) - maxListed; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	if n := e.LeftOut[ReasonUntyped]; n > 0 && len(e.Have) > 0 {
		fmt.Fprintf(&b, "; left out: %d without a media type", n)
	}
	return b.String()
}

// missing returns the platform that no entry has. The variant is left out if no entry has
// the OS and the architecture, because another variant would not help then, and because the
// caller of [Host] has not chosen one.
func (e *NoMatchError) missing() ocispec.Platform {
	p := e.Want
	if !slices.ContainsFunc(e.Have, func(have ocispec.Platform) bool {
		have = Normalize(have)
		return have.OS == p.OS && have.Architecture == p.Architecture
	}) {
		p.Variant = ""
	}
	return p
}

// leftOut says why no entry can be chosen for any platform.
func (e *NoMatchError) leftOut() string {
	if len(e.LeftOut) == 0 {
		return "; no entry names a platform"
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(e.LeftOut)) {
		parts = append(parts, fmt.Sprintf("%s (%d)", why, e.LeftOut[why]))
	}
	text := "; no entry of the index is an image: " + strings.Join(parts, ", ")
	if e.Artifact != "" {
		text += "; pull an artifact by its digest, as NAME@" + string(e.Artifact)
	}
	if e.LeftOut[reasonArtifactManifest] > 0 {
		text += "; " + artifactAdvice
	}
	return text
}

// Is reports whether target is ErrNoMatch or a Reason of LeftOut.
func (e *NoMatchError) Is(target error) bool {
	reason, ok := target.(Reason)
	return target == ErrNoMatch || ok && e.LeftOut[reason] > 0
}

// printable returns FormatPlatform(p), escaped and cut, because p may come from a registry.
func printable(p ocispec.Platform) string { return redact.Escape(FormatPlatform(p), 80) }
