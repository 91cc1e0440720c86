package reference

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

func newParseError(s string, at int, part Part, why Reason) *ParseError {
	h := findUserinfo(s)
	if h.certain {
		return &ParseError{Input: h.hide(s), Offset: h.from, Part: PartRegistry, Err: ErrUserinfo}
	}
	return &ParseError{Input: h.hide(s), Offset: at, Part: part, Err: explain(s, at, part, why), shift: h.place(at) - at}
}

// newPieceError is for text that is only a part of a name.
func newPieceError(what, s string, at int, part Part, why Reason) *ParseError {
	err := newParseError(s, at, part, why)
	err.what = what
	return err
}

// explain looks at what stands where the fault is, for mistakes that are often made.
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

// isSpace reports white space and what editors show as none at all.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || r == '\u200b' || r == '\u2060' || r == '\ufeff'
}

// cutDigest cuts s before the @ of what is meant as a digest: of an algorithm
// that people know, or with more behind the colon than a port has.
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
