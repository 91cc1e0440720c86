package redact

import (
	"strconv"
	"unicode/utf8"
)

// Quote returns the first limit bytes of s in double quotes, escaped as strconv.Quote does.
// If s is longer, three dots follow the closing quote. Quote does not mask secrets. If s
// may have one, the caller masks it first with Secrets, because half of a secret is not
// recognised.
func Quote(s string, limit int) string {
	if len(s) <= limit {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:runeStart(s, limit)]) + dots
}

// Escape returns the first limit bytes of s, and three dots if s is longer. It is for text
// in a list or a table. Control characters and bytes that are not UTF-8 are escaped; quotes
// are not.
func Escape(s string, limit int) string {
	if len(s) <= limit {
		return escape(s)
	}
	return escape(s[:runeStart(s, limit)]) + dots
}

// Cut returns the first limit bytes of s, and three dots if s is longer. Cut does not
// escape, because the result is part of a text that the caller quotes or escapes as a
// whole.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:runeStart(s, limit)] + dots
}

// CutCharacters returns the first n characters of s, and three dots if s has more. It is
// for sentences in any language; a name or a path is cut with Cut. CutCharacters does not
// escape.
func CutCharacters(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i] + dots
		}
		n--
	}
	return s
}

// dots follow a text that was cut.
const dots = "..."

// runeStart returns the largest index of s, at most i, at which a cut divides no character.
// For text that is not UTF-8 it returns i.
func runeStart(s string, i int) int {
	for n := i; n > 0 && n > i-utf8.UTFMax; n-- {
		if utf8.RuneStart(s[n]) {
			return n
		}
	}
	return i
}
