package keys

import (
	"strings"

	"github.com/pullkit/pullkit/internal/redact"
)

// IsPlain reports whether a name of a field consists of at most 32 letters. An error may
// show such a name even where another name may be a secret.
func IsPlain(name string) bool {
	const longest = 32
	for i := range len(name) {
		if c := name[i]; !IsAlnum(c) || IsDigits(name[i:i+1]) {
			return false
		}
	}
	return name != "" && len(name) <= longest
}

// QuoteName quotes the name of a field if it is so plain that an error may show it.
func QuoteName(name string) string {
	if !IsPlain(strings.Trim(name, ".")) {
		return "another field"
	}
	return quote(name)
}

// QuoteDataName returns the name of a value of a Secret's data for an error. The name is
// quoted unless a Secret can have it.
func QuoteDataName(name string) string {
	if isDataName(name) && Redact(name) == name {
		return name
	}
	return quote(Redact(name))
}

// isDataName reports whether a Secret's data can have a value of this name.
func isDataName(s string) bool {
	return strings.Trim(s, ".") != "" && !strings.ContainsFunc(s, func(r rune) bool { return !IsAlnumRune(r) && !strings.ContainsRune("._-", r) })
}

// IsObjectName reports whether a text is a name that an object of Kubernetes can have: a
// DNS-1123 name. An error shows no other name of an object, because in a malformed text
// the name may seem to go on to a password.
func IsObjectName(text string) bool {
	const longest = 253
	if len(text) > longest {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

// JoinName returns the name of an object with its namespace, which may be "".
func JoinName(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

// quote returns at most 120 bytes of a text from outside in quotes.
func quote(s string) string { return redact.Quote(s, maxQuoted) }

const maxQuoted = 120
