package strictjson

import (
	"unicode/utf16"
	"unicode/utf8"
)

// unquote replaces the escapes of a string whose syntax was checked. Bytes that are not
// UTF-8 and halves of surrogate pairs become U+FFFD, as in encoding/json.
func unquote(raw []byte) string {
	b := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			c, size := utf8.DecodeRune(raw[i:])
			b = utf8.AppendRune(b, c)
			i += size
			continue
		}
		c, size := unescape(raw[i:])
		b = utf8.AppendRune(b, c)
		i += size
	}
	return string(b)
}

// unescape returns the character of the escape that s begins with, and its length.
func unescape(s []byte) (rune, int) {
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		return unescapeHex(s)
	}
	return rune(s[1]), 2
}

// unescapeHex reads \uXXXX, or two of these escapes that form one character together.
func unescapeHex(s []byte) (rune, int) {
	c, _ := hex4(s[2:])
	if !utf16.IsSurrogate(c) {
		return c, 6
	}
	if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
		low, _ := hex4(s[8:])
		if pair := utf16.DecodeRune(c, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// hex4 reads four hexadecimal digits.
func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var n rune
	for _, c := range s[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | rune(c)
	}
	return n, true
}
