package reference

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

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
// on [ParseError.Reason].
type Reason string

// The reasons for which names are refused.
const (
	ErrMissing    Reason = "missing"                                         // the part is empty, or ends too early
	ErrCharacter  Reason = "character not allowed"                           // every other wrong byte
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
	ErrNotHost    Reason = "would be read as part of the repository"         // from [Reference.WithRegistry] and [Parser]
	ErrPinned     Reason = "has a digest"                                    // from [Reference.WithArch]
)

// Error returns the reason's text.
func (r Reason) Error() string { return string(r) }

// hint says what to do about the reason. It is "" if the reason's text says enough.
func (r Reason) hint() string {
	switch r {
	case ErrSpace:
		return "; remove it"
	case ErrUpperCase:
		return "; write it in lower case"
	case ErrUnderscore:
		return "; a host name has none: write the host's IP address, or rename the host"
	case ErrTooLong:
		return "; a repository has at most 255 bytes, a tag 128"
	case ErrImageID:
		return "; write the repository, then @sha256: and a manifest's digest"
	case ErrAlgorithm:
		return "; use sha256, sha384 or sha512"
	case ErrDigest:
		return "; write the algorithm, a colon and all its lower-case hex digits"
	case ErrScheme:
		return "; leave it out: a name begins with the registry"
	case ErrTemplate:
		return "; fill it in before the name is used"
	case ErrUserinfo:
		return "; leave it out, and give it to the program as a credential"
	case ErrNotHost:
		return "; write localhost, or a host with a dot, a port or an upper-case letter"
	case ErrPinned:
		return "; leave the digest out, because it is that of the image without the suffix"
	}
	return ""
}

// A ParseError says which byte of a name is wrong, and why. Its text quotes the name, cut
// at 300 bytes.
type ParseError struct {
	// Input is the text that was refused. If the text before an @ may be user:password,
	// [redacted] is in its place.
	Input string
	// Offset is the index of the wrong byte in the text as it was given. It is the text's
	// length if something is missing at the end. For each fault in a digest it is the index
	// of the digest's first byte. The text of Error has the index in Input instead.
	Offset int
	// Part is the part of the name that Offset is in.
	Part Part
	// Reason says why the name is refused.
	Reason Reason

	what  string // what Input is, if it is not a whole image name
	shift int    // added to Offset, it gives the index in Input
}

// Error describes the error and says what to do about it.
func (e *ParseError) Error() string {
	what, where := "image name", string(e.Part)+" at byte"
	if e.what != "" {
		what, where = e.what, "byte"
	}
	return fmt.Sprintf("%s %s: %s %d: %v%s", what, quote(e.Input), where, e.Offset+e.shift, e.Reason, e.Reason.hint())
}

// Unwrap returns the reason, for errors.Is.
func (e *ParseError) Unwrap() error { return e.Reason }

// quote returns s in quotes. If s is long, it is cut, and its length follows.
func quote(s string) string {
	const limit = 300
	quoted := redact.Quote(s, limit)
	if len(s) > limit {
		quoted += fmt.Sprintf(" (%d bytes)", len(s))
	}
	return quoted
}

// newParseError returns the error for a fault at s[at]. If s certainly has a user name or
// password, the error is ErrUserinfo instead.
func newParseError(s string, at int, part Part, why Reason) *ParseError {
	u := findUserinfo(s)
	if u.certain {
		return &ParseError{Input: u.hide(s), Offset: u.from, Part: PartRegistry, Reason: ErrUserinfo}
	}
	return &ParseError{Input: u.hide(s), Offset: at, Part: part, Reason: explain(s, at, part, why), shift: u.place(at) - at}
}

// newPieceError is newParseError for text that is only a part of a name.
func newPieceError(what, s string, at int, part Part, why Reason) *ParseError {
	err := newParseError(s, at, part, why)
	err.what = what
	return err
}

// explain returns a more exact reason than why for common mistakes: a scheme, a template,
// white space, an upper-case letter. The fault is at s[at].
func explain(s string, at int, part Part, why Reason) Reason {
	rest := s[at:]
	if part == PartDigest {
		switch {
		case templateAt(rest) >= 0:
			return ErrTemplate
		case strings.ContainsFunc(rest, isSpace):
			return ErrSpace
		}
		return why
	}
	r, _ := utf8.DecodeRuneInString(rest)
	switch {
	case why == ErrTooLong || rest == "":
		return why
	case at > 0 && strings.HasPrefix(s[at-1:], "://"):
		return ErrScheme
	case templateAt(rest) == 0:
		return ErrTemplate
	case isSpace(r):
		return ErrSpace
	case 'A' <= r && r <= 'Z' && part == PartRepository:
		return ErrUpperCase
	}
	return why
}

// templateAt returns the index of the first variable or template in s, or -1.
func templateAt(s string) int {
	for i := range len(s) {
		if rest := s[i:]; strings.HasPrefix(rest, "$(") || strings.HasPrefix(rest, "${") || strings.HasPrefix(rest, "{{") {
			return i
		}
	}
	return -1
}

// isSpace reports whether r is white space, or a character that editors do not show.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || r == '\u200b' || r == '\u2060' || r == '\ufeff'
}

// cutDigest cuts s before the @ of a digest. A malformed digest counts, too, if it names a
// known algorithm, or if 32 or more characters follow its colon, which is more than a port
// has.
func cutDigest(s string) (name, digest string) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 || strings.IndexByte(s[at:], '/') >= 0 {
		return s, ""
	}
	algorithm, encoded, _ := strings.Cut(s[at+1:], ":")
	switch strings.ToLower(algorithm) {
	case "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake3":
		return s[:at], s[at:]
	}
	if isAlgorithm(algorithm) && len(encoded) >= 32 { // 128 bits in hex
		return s[:at], s[at:]
	}
	return s, ""
}

// mask replaces text that may be user:password in an error.
const mask = "[redacted]"

// A userinfo is the part s[from:to] of a text that may be user:password.
type userinfo struct {
	from, to int
	certain  bool // it cannot be anything else
}

// hide returns s with the mask in place of the user info.
func (u userinfo) hide(s string) string {
	if u.from == u.to {
		return s
	}
	return s[:u.from] + mask + s[u.to:]
}

// place returns the index in hide(s) of the byte s[at], or of the mask that covers it.
func (u userinfo) place(at int) int {
	switch {
	case u.from == u.to || at <= u.from:
		return at
	case at < u.to:
		return u.from
	}
	return at - u.to + u.from + len(mask)
}

// findUserinfo finds what may be user:password in s: the text before an @ that does not
// begin a digest. It certainly is user:password if a slash follows the @, because no name
// has a slash there. A scheme before it does not belong to it. Text that looks like a name
// is not user info.
func findUserinfo(s string) userinfo {
	name, _ := cutDigest(s)
	at := strings.LastIndexByte(name, '@')
	if at < 0 {
		return userinfo{}
	}
	certain := strings.IndexByte(name[at:], '/') >= 0
	if !certain && (strings.IndexByte(name[:at], ':') < 0 || isNameWithPort(name[:at])) {
		return userinfo{} // name@latest
	}
	from := 0
	if i := strings.Index(name[:at], "://"); i >= 0 && isAlgorithm(name[:i]) {
		from = i + len("://")
	}
	return userinfo{from, at, certain}
}

// isNameWithPort reports whether s is the name of an image at a registry with a port,
// "reg.example:5000/app". Otherwise it may be user:password, with a password that begins
// like a port and a slash.
func isNameWithPort(s string) bool {
	slash := strings.IndexByte(s, '/')
	if slash < 0 {
		return false
	}
	if _, why := scanRegistry(s[:slash]); why != "" {
		return false
	}
	colon := strings.LastIndexByte(s[:slash], ':')
	if colon < 0 || slash-colon > len(":65535") {
		return false
	}
	if host := s[:colon]; host != "localhost" && !strings.Contains(host, ".") && !strings.HasSuffix(host, "]") {
		return false
	}
	end, why := scanRepository(s, slash+1)
	if why == "" && end < len(s) && s[end] == ':' {
		end, why = scanTag(s, end+1)
	}
	return why == "" && end == len(s)
}
