package credentials

import "github.com/pullkit/pullkit/internal/redact"

// maxQuoted is the number of bytes of outside input that an error text repeats.
const maxQuoted = 120

// quote makes a text from outside fit for an error: control characters are
// escaped and the length is bounded.
func quote(s string) string { return redact.Quote(s, maxQuoted) }
