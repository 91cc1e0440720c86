package keys

import (
	"encoding/base64"
	"strings"
)

// DecodeBase64 decodes base64 as users write it, including forms that no reader of
// credentials accepts: in either alphabet or a mixture of both, padded or not, on one
// line or on several, and after a prefix that Base64Prefix knows. It reports false for a
// text that is not base64.
func DecodeBase64(text string) ([]byte, bool) {
	text = strings.TrimSpace(text)
	text = text[len(Base64Prefix(text)):]
	text = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(" \t\r\n", r):
			return -1
		case r == '-':
			return '+'
		case r == '_':
			return '/'
		}
		return r
	}, text)
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	return decoded, err == nil && len(decoded) > 0
}

// Base64Prefix returns the beginning of a text that says that base64 follows, such as
// that of a data: URL; "" if the text has no such beginning.
func Base64Prefix(text string) string {
	const longest = 100 // of a media type and its parameters
	head := strings.ToLower(text[:min(len(text), longest)])
	if strings.HasPrefix(head, "data:") {
		if i := strings.Index(head, ";base64,"); i >= 0 {
			return text[:i+len(";base64,")]
		}
	}
	for _, prefix := range []string{"base64:", "base64,"} {
		if strings.HasPrefix(head, prefix) {
			return text[:len(prefix)]
		}
	}
	return ""
}

// IsPrintable reports whether a text has only printable ASCII characters.
func IsPrintable(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
