// Package redact makes text from any source safe for errors and logs. It masks secrets, the
// user info of URLs and the values in their queries, escapes control characters, and cuts
// long text. The only values of a query that it shows are those of ns, scope and service.
// They are never secret, and say which registry and repository a request was for.
package redact

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// Limit is the length in bytes of the longest text that Text returns.
	Limit = 1024
	// Mask replaces a secret.
	Mask = "[redacted]"
	// input is how many bytes of a text are searched for secrets. It is much more than
	// Limit, so that half of a secret at the end of these bytes is not shown.
	input = 64 << 10
)

// Text returns s for an error or a log, at most Limit bytes long. The secrets, the user
// info of URLs and the values in their queries are masked, and control characters are
// escaped. A secret of less than four bytes is masked only where it is a word of a
// sentence.
func Text(s string, secrets ...string) string {
	forms := spellings(secrets)
	if len(s) >= input {
		s = cutHalfSecret(s[:input], forms)
	}
	s = mask(s, forms)
	s = maskURLs(s)
	s = escape(s)
	// Escaping may have written a secret again.
	return Cut(mask(s, forms), Limit-len(dots))
}

// Secrets returns s with the secrets masked, and does not change anything else. A caller
// that cuts a text before it calls Text masks the text with Secrets first, because Text
// does not recognise half of a secret.
func Secrets(s string, secrets ...string) string { return mask(s, spellings(secrets)) }

// URL returns u as text, without user info and fragment, and with masks in place of query
// values and secrets. It masks the query before it makes the text, because a query may have
// any character.
func URL(u *url.URL, secrets ...string) string {
	v := *u
	v.User, v.Fragment, v.RawFragment, v.RawQuery = nil, "", "", ""
	text := v.String()
	if u.RawQuery != "" {
		text = strings.TrimSuffix(text, "?") + "?" + maskQuery(Secrets(u.RawQuery, secrets...))
	}
	return Text(text, secrets...)
}

// spellings returns the forms in which a text may contain each secret, the longest first.
func spellings(secrets []string) []string {
	var forms []string
	for _, s := range secrets {
		if s == "" {
			continue
		}
		std := base64.StdEncoding.EncodeToString([]byte(s))
		// Programs repeat schemes, host names and parameters in lower case.
		forms = append(forms, s, strings.ToLower(s), url.QueryEscape(s), url.PathEscape(s), escape(s), quoted(s),
			std, strings.TrimRight(std, "="), base64.RawURLEncoding.EncodeToString([]byte(s)))
	}
	slices.SortFunc(forms, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(forms)
}

func quoted(s string) string {
	q := fmt.Sprintf("%q", s)
	return q[1 : len(q)-1]
}

func mask(s string, forms []string) string {
	for _, form := range forms {
		switch {
		case len(form) >= 2*beginning:
			s = maskBeginnings(s, form)
		case len(form) >= 4:
			s = strings.ReplaceAll(s, form, Mask)
		default:
			s = maskWord(s, form)
		}
	}
	return s
}

// beginning is how many bytes of a long secret are enough to recognise it in a text that
// has cut off the rest. Programs that quote a shorter secret quote all of it.
const beginning = 24

// maskBeginnings masks a long secret, and each text that begins like it.
func maskBeginnings(s, secret string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, secret[:beginning])
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		n := beginning
		for n < len(secret) && i+n < len(s) && s[i+n] == secret[n] {
			n++
		}
		b.WriteString(s[:i] + Mask)
		s = s[i+n:]
	}
}

// maskWord masks a secret of a few bytes where it is a word of a sentence. Within a path, a
// host name or a number the same letters occur by chance, and a mask there would show
// readers which letters the secret has.
func maskWord(s, word string) string {
	var b strings.Builder
	for at := 0; ; {
		i := strings.Index(s[at:], word)
		if i < 0 {
			b.WriteString(s[at:])
			return b.String()
		}
		start, end := at+i, at+i+len(word)
		b.WriteString(s[at:start])
		if joinsBefore(s[:start]) || joinsBehind(s[end:]) {
			b.WriteString(word)
		} else {
			b.WriteString(Mask)
		}
		at = end
	}
}

// joinsBefore reports whether letters after text would belong to its last word.
func joinsBefore(text string) bool {
	r, _ := utf8.DecodeLastRuneInString(text)
	return inWord(r) || strings.ContainsRune("/.:@-_%", r)
}

// joinsBehind reports whether text continues the word before it.
func joinsBehind(text string) bool {
	r, size := utf8.DecodeRuneInString(text)
	if r == '.' || r == ':' { // not at the end of a sentence
		next, _ := utf8.DecodeRuneInString(text[size:])
		return inWord(next)
	}
	return inWord(r) || strings.ContainsRune("/@_%", r)
}

func inWord(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r))
}

// cutHalfSecret removes the beginning of a secret from the end of a text that was cut.
func cutHalfSecret(s string, forms []string) string {
	for again := true; again; {
		again = false
		for _, form := range forms {
			for n := min(len(form)-1, len(s)); n > 0; n-- {
				if strings.HasSuffix(s, form[:n]) {
					s, again = s[:len(s)-n], true
					break
				}
			}
		}
	}
	return s
}

// maskURLs masks the user info and the query values of each URL in s.
func maskURLs(s string) string {
	if !strings.ContainsAny(s, "?@") {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		i := strings.IndexFunc(s, ends)
		if i < 0 {
			i = len(s)
		}
		// Punctuation after a URL is not part of it.
		url := strings.TrimRight(s[:i], ":;,.)")
		b.WriteString(maskURL(url))
		b.WriteString(s[len(url):i])
		if i < len(s) {
			_, size := utf8.DecodeRuneInString(s[i:])
			b.WriteString(s[i : i+size])
			i += size
		}
		s = s[i:]
	}
	return b.String()
}

// ends reports whether r cannot be part of a URL in running text.
func ends(r rune) bool {
	return r <= ' ' || r == '"' || r == '<' || r == '>' || r == '\\' || r == '`' || r == utf8.RuneError || unicode.IsSpace(r)
}

func maskURL(s string) string {
	scheme, rest, absolute := strings.Cut(s, "://")
	if absolute {
		authority := rest
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			authority = rest[:i]
		}
		if i := strings.LastIndexByte(authority, '@'); i >= 0 {
			rest = Mask + rest[i:]
		}
		s = scheme + "://" + rest
	}
	path, query, ok := strings.Cut(s, "?")
	if !ok || query == "" || !absolute && !strings.HasPrefix(s, "/") && !strings.Contains(query, "=") {
		return s
	}
	return path + "?" + maskQuery(query)
}

// maskQuery masks a query pair by pair.
func maskQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		pairs[i] = maskPair(pair)
	}
	return strings.Join(pairs, "&")
}

// maskPair masks one part of a query. The part may have any form. A name is shown only if a
// value follows, because a part without a value may be a secret.
func maskPair(pair string) string {
	name, value, _ := strings.Cut(pair, "=")
	switch {
	case pair == "" || pair == Mask:
		return pair
	case strings.Trim(value, "=") == "" || !isName(name):
		return Mask
	case name == "ns" || name == "scope" || name == "service":
		return name + "=" + plain(name, value)
	}
	return name + "=" + Mask
}

// maxName is the length of the longest name of a parameter that is shown.
const maxName = 40

// isName reports whether s looks like the name of a parameter, such as
// X-Amz-Signature.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// plain returns the value of ns, scope or service without percent-encoding:
// repository:team/app:pull for repository%3Ateam%2Fapp%3Apull. A value with other
// characters is masked, because another parameter may be hidden in it.
func plain(name, value string) string {
	text, err := url.QueryUnescape(value)
	if err != nil {
		return Mask
	}
	extra := "[]" // the brackets of an IPv6 address
	if name != "ns" {
		extra += " *"
	}
	if name == "scope" {
		extra += ","
	}
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:/"+extra, rune(c)) {
			return Mask
		}
	}
	if strings.Contains(text, " ") {
		return value
	}
	return text
}

// escape escapes control characters, other characters that do not print, and bytes that
// are not UTF-8.
func escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r < 0x80 && unicode.IsControl(r):
			fmt.Fprintf(&b, `\x%02x`, r)
		case !unicode.IsPrint(r):
			// These include line separators and marks that change the direction of writing.
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
