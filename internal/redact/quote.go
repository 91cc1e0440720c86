package redact

import (
	"strconv"
	"unicode/utf8"
)

// Quote returns the first limit bytes of s in double quotes, escaped as
// strconv.Quote does. Three dots follow the closing quote where s is longer. Quote
// masks no secret: where s may hold one, the caller masks it before with Secrets,
// because half a secret is not recognised any more.
func Quote(s string, limit int) string {
	if len(s) <= limit {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:runeStart(s, limit)]) + dots
}

// Escape returns the first limit bytes of s, and three dots where s is longer, for text in a
// list or a table. Control characters and bytes that are not UTF-8 are escaped; quotes are
// not.
func Escape(s string, limit int) string {
	if len(s) <= limit {
		return escape(s)
	}
	return escape(s[:runeStart(s, limit)]) + dots
}

// Cut returns the first limit bytes of s, and three dots where s is longer. It does not
// escape: the result is part of a text that the caller quotes or escapes as a whole.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:runeStart(s, limit)] + dots
}

// dots follow a text that was cut.
const dots = "..."

// runeStart returns the last index of s, at most i, at which no character is cut in
// two. Text that is not UTF-8 is cut at i.
func runeStart(s string, i int) int {
	for n := i; n > 0 && n > i-utf8.UTFMax; n-- {
		if utf8.RuneStart(s[n]) {
			return n
		}
	}
	return i
}
