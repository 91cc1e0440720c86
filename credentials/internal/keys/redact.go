package keys

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hidden replaces a part of a key that may be a secret. The name of a registry cannot have
// it, so that a key with it never matches an image.
const Hidden = "(hidden)"

// Redact returns a key without the parts that may be a secret: a user name and password
// before an @, a password after a colon, the values of a query, a token, or base64. Only
// the parts that can be a registry's name, a port or a path are left.
func Redact(key string) string {
	if name, digest, ok := strings.Cut(key, "@"); ok && IsDigest(key) && isHex(digest[strings.IndexByte(digest, ':'):]) {
		return redactWords(name) + "@" + digest
	}
	if i := strings.LastIndexByte(key, '@'); i >= 0 {
		if behind := redactWords(key[i+1:]); strings.ContainsAny(behind, ".:/") || behind == "" || strings.EqualFold(behind, "localhost") {
			return "***@" + behind
		}
		return "***@" + Hidden // it may be a password with an @ in it
	}
	return redactWords(key)
}

// redactWords returns a text without the parts that may be a secret. The text does not have
// a user name before an @.
func redactWords(text string) string {
	if i := strings.IndexByte(text, '#'); i >= 0 && i+1 < len(text) {
		return redactWords(text[:i]) + "#" + Hidden
	}
	if i := queryStart(text); i >= 0 {
		return redactWords(text[:i]) + "?" + Hidden
	}
	if isSecret(text) {
		return Hidden
	}
	var b strings.Builder
	for text != "" {
		end := strings.IndexFunc(text, isWordEnd)
		if end < 0 {
			end = len(text)
		}
		scheme := cutSchemeWord(text[:end])
		b.WriteString(text[:scheme])
		b.WriteString(redactWord(text[scheme:end]))
		if end < len(text) {
			_, size := utf8.DecodeRuneInString(text[end:])
			b.WriteString(text[end : end+size])
			if text[end] == '=' && end+1 < len(text) {
				b.WriteString(Hidden)
				return b.String()
			}
			end += size
		}
		text = text[end:]
	}
	return b.String()
}

// isWordEnd reports whether a character ends a word that isSecret checks: a registry's name
// cannot have it, or it separates two parts of a path.
func isWordEnd(r rune) bool {
	return strings.ContainsRune("/\\,;|=&\"'`<>(){}“”„‘’‚«»", r) || unicode.IsSpace(r)
}

// cutSchemeWord returns the length of all schemes at the beginning of a text, such as docker:
// or http:oci:.
func cutSchemeWord(text string) (length int) {
	for {
		word, _, ok := strings.Cut(text[length:], ":")
		if !ok || !isScheme(word) {
			return length
		}
		length += len(word) + 1
	}
}

// isScheme reports whether a word is a scheme that users write before a registry's name. Any
// other word before a colon may be a user name.
func isScheme(word string) bool {
	switch strings.ToLower(word) {
	case "http", "https", "oci", "oci-archive", "docker", "docker-archive", "docker-daemon", "registry", "containers-storage", "containerd",
		"dir", "file", "ftp", "git", "gs", "helm", "s3", "ssh", "tcp", "unix":
		return true
	}
	return false
}

// redactWord returns Hidden in place of a word that may be a secret, and of the text
// after a colon in the word if that text cannot be a port or an image's tag.
func redactWord(word string) string {
	if isSecret(word) {
		return Hidden
	}
	if strings.HasPrefix(word, "[") || strings.Count(word, ":") > 1 && IsAddress(word) { // an IPv6 address
		return word
	}
	before, behind, ok := strings.Cut(word, ":")
	if !ok || behind == "" || isPort(behind) || isTag(behind) || isScheme(behind) {
		return word
	}
	return before + ":" + Hidden
}

// isPort reports whether a text looks like a port. It may have wildcards, because a user
// may write them although a port cannot have them.
func isPort(text string) bool {
	const longest = 5
	return len(text) <= longest && strings.Trim(text, "0123456789*?") == ""
}

// isTag reports whether a text looks like the tag of an image, such as latest, v1 or 1.2, and
// not like a password.
func isTag(text string) bool {
	const longest = 12
	number := strings.TrimPrefix(text, "v")
	isNumber := number != "" && strings.Trim(number, "0123456789.") == "" && (len(number) < len(text) || strings.Contains(number, "."))
	return text == "latest" || isNumber && len(number) <= longest
}

func isHex(text string) bool { return strings.Trim(text, "0123456789abcdefABCDEF:.") == "" }

// queryStart returns the position of the question mark before a query; -1 if the text has no
// query. Any other question mark is a wildcard for one letter of a host.
func queryStart(text string) int {
	i := strings.IndexByte(text, '?')
	if i < 0 || i+1 == len(text) {
		return -1
	}
	const shortest = 4 // of a query without = that is hidden
	rest := text[i+1:]
	isHost := !strings.Contains(CutScheme(text[:i]), "/") && strings.Contains(text[:i], ".")
	if strings.ContainsAny(rest, "=&") || isHost && len(rest) >= shortest && !strings.ContainsAny(rest, "./:?*") {
		return i
	}
	return -1
}

// isSecret reports whether a word looks more like a password or a token than like a part of
// a name: it is base64 of a login or of JSON, or a long mixture of letters and digits.
func isSecret(word string) bool {
	const (
		shortest = 8  // of a mixture without dot and port
		longest  = 20 // of a word that begins with eyJ and may be a part of a name
	)
	if decoded, ok := DecodeBase64(word); ok && IsPrintable(decoded) && strings.ContainsAny(string(decoded), ":{") {
		return true
	}
	if strings.HasSuffix(word, "=") || strings.HasPrefix(word, "eyJ") && len(word) >= longest {
		return true
	}
	for _, prefix := range []string{"ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "dckr_pat_", "hvs.", "xoxb-"} {
		if strings.HasPrefix(word, prefix) {
			return true
		}
	}
	if strings.ContainsAny(word, ".:*?[") || strings.Contains(strings.ToUpper(word), "%2F") {
		return false
	}
	upper, lower, digit := strings.IndexFunc(word, unicode.IsUpper) >= 0, strings.IndexFunc(word, unicode.IsLower) >= 0, strings.ContainsAny(word, "0123456789")
	return digit && upper && lower && len(word) >= shortest
}
