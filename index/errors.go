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

// What the errors of this package are, for errors.Is.
var (
	// ErrNoMatch: the document is fine, and nothing in it fits the platform. See NoMatchError.
	ErrNoMatch = errors.New("no match")
	// ErrInvalid: the document, or the entry that was chosen, cannot be used. See InvalidError.
	ErrInvalid = errors.New("invalid document")
	// ErrPlatform: the platform that was asked for is none. See PlatformError.
	ErrPlatform = errors.New("invalid platform")
)

// A Rule names what a document broke. The texts are those of the kinds of
// package content, so that content.Kind(rule) is the kind of the error.
type Rule string

// The rules.
const (
	RuleTooLarge       Rule = "too large"             // more than MaxSize bytes
	RuleManifest       Rule = "bad manifest"          // bad JSON, ambiguous, or what a manifest must have is missing or malformed
	RuleIndex          Rule = "bad index"             // the same, of a document that is known to be an index
	RuleDigest         Rule = "bad digest"            // malformed, or of an algorithm nobody can verify
	RuleMediaType      Rule = "unexpected media type" // neither an index nor a manifest, or Docker's schema 1
	RuleTooDeep        Rule = "too deep"              // indexes within indexes, beyond MaxDepth levels or MaxDocuments documents
	RuleDigestMismatch Rule = "digest mismatch"       // fetched content is not what its descriptor names
	RuleSizeMismatch   Rule = "size mismatch"         // fetched content has another length than its descriptor says
)

// An InvalidError says which rule a document broke. It is an ErrInvalid.
type InvalidError struct {
	Rule   Rule
	Reason string // what and where; parts of the document are quoted and cut
}

// Error gives the rule and the reason.
func (e *InvalidError) Error() string { return string(e.Rule) + ": " + e.Reason }

// Is makes the error an ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(rule Rule, format string, args ...any) *InvalidError {
	return &InvalidError{Rule: rule, Reason: fmt.Sprintf(format, args...)}
}

// A PlatformError says what is wrong with a platform that was asked for. It is
// an ErrPlatform.
type PlatformError struct {
	Input  string // as given, or as FormatPlatform spells it
	Reason string
}

// Error quotes the input, cut, and gives the reason.
func (e *PlatformError) Error() string {
	return "platform " + redact.Quote(e.Input, 80) + ": " + e.Reason
}

// Is makes the error an ErrPlatform.
func (e *PlatformError) Is(target error) bool { return target == ErrPlatform }

// A NoMatchError says that an index has nothing for a platform, and what it
// has. It is an ErrNoMatch.
type NoMatchError struct {
	Want ocispec.Platform
	// Have are the platforms of the entries that could be chosen, spelled as in
	// the index, in its order, each once. They are a stranger's text.
	Have []ocispec.Platform
	// Empty says that the index has no entries at all.
	Empty bool
	// LeftOut counts the entries that are an image for no platform, by the reason:
	// attestations, artifacts, entries without media type and the like.
	LeftOut map[Why]int
	// Artifact is the digest of the first entry that is an artifact and names no
	// platform; "" if there is none. Such an entry is pulled by its digest.
	Artifact digest.Digest
}

// maxListed is how many platforms the text of a NoMatchError names.
const maxListed = 20

// Error names what was wanted and what there is: at most 20 platforms, each
// escaped and cut. Where no entry can be chosen for any platform it says why, and
// how to pull an artifact.
func (e *NoMatchError) Error() string {
	var b strings.Builder
	b.WriteString("no match for ")
	b.WriteString(printable(e.Want))
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
	if n := e.LeftOut[WhyUntyped]; n > 0 && len(e.Have) > 0 {
		fmt.Fprintf(&b, "; left out: %d without a media type", n)
	}
	return b.String()
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
	if e.LeftOut[whyArtifactManifest] > 0 {
		text += "; " + artifactAdvice
	}
	return text
}

// Is makes the error an ErrNoMatch.
func (e *NoMatchError) Is(target error) bool { return target == ErrNoMatch }

// printable is FormatPlatform, escaped and cut, because p may be a stranger's.
func printable(p ocispec.Platform) string { return redact.Escape(FormatPlatform(p), 80) }
