package credentials

import (
	"strconv"
	"unicode/utf8"
)

// maxQuoted is the number of bytes of outside input that an error text repeats.
const maxQuoted = 120

// quote makes a text from outside fit for an error: control characters are
// escaped and the length is bounded.
func quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.Quote(s)
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "..."
}
