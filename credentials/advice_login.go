package credentials

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pullkit/pullkit/internal/strictjson"
)

// advice returns warnings about a login that can be read and looks wrong. c is what
// was made of it.
func (l *login) advice(c Credential) []error {
	var found []string
	for _, part := range []struct{ name, text string }{
		{"the user name", c.Username}, {"the password", c.Password.Reveal()},
		{"the identity token", c.IdentityToken.Reveal()}, {"the registry token", c.RegistryToken.Reveal()},
	} {
		if what := oddText(part.text); what != "" {
			found = append(found, part.name+" "+what)
		}
	}
	token := !c.IdentityToken.IsZero() || !c.RegistryToken.IsZero()
	switch {
	case token:
	case c.Username == "" && !c.Password.IsZero():
		found = append(found, "it has a password and no user name")
	case c.Username != "" && c.Password.IsZero():
		found = append(found, "it has a user name and no password")
	}
	if l.auth != "" && (l.username != "" && l.username != c.Username || l.password != "" && l.password != c.Password.Reveal()) {
		found = append(found, "auth holds another login than username and password, and auth counts")
	}
	if prefix := base64Prefix(c.Username + ":" + c.Password.Reveal()); l.auth != "" && prefix != "" {
		found = append(found, "auth was encoded twice: what it holds begins with "+quote(prefix))
	}
	var errs []error
	for _, what := range found {
		errs = append(errs, warning(ErrLooksWrong, what))
	}
	return errs
}

// oddText says what a user name, password or token looks to have caught on its way
// through editors, shells and templates; "" if it looks well. It repeats none of the
// text but a single character that cannot be seen.
func oddText(s string) string {
	if s == "" {
		return ""
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	switch {
	case isStray(last):
		return "ends with " + runeName(last) + ": remove it from what was encoded (printf, not echo)"
	case isStray(first):
		return "begins with " + runeName(first) + ": remove it from what was encoded"
	case len(s) > 1 && isQuotes(first, last):
		return "stands in quotes, which are part of it: remove them if they were meant for a shell or for YAML"
	case isPlaceholder(s):
		return "looks like a placeholder that was never filled in"
	case strings.HasPrefix(s, "-n "):
		return `begins with "-n ", which some shells' echo writes: use printf`
	}
	for i, r := range s {
		if isInvisible(r) || r == utf8.RuneError && strings.HasPrefix(s[i:], string(utf8.RuneError)) {
			return "holds " + runeName(r) + ": remove it from what was encoded"
		}
	}
	return ""
}

// isStray reports whether a character at an edge of a text is one that nobody types
// there on purpose.
func isStray(r rune) bool { return unicode.IsSpace(r) || isInvisible(r) }

// isInvisible reports whether a character cannot be seen wherever it stands: control
// characters, and the zero-width ones of Unicode.
func isInvisible(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

func isQuotes(first, last rune) bool {
	switch first {
	case '"', '\'', '`':
		return last == first
	case '“', '„', '”':
		return last == '”' || last == '“'
	case '‘', '‚', '’':
		return last == '’' || last == '‘'
	case '«':
		return last == '»'
	}
	return false
}

// tokenUser is the user name with which docker's helpers mark an identity token.
const tokenUser = "<token>"

// isPlaceholder reports whether s holds what a template, a shell or a program that
// masks secrets left in place of a value.
func isPlaceholder(s string) bool {
	for _, pair := range [][2]string{{"{{", "}}"}, {"${", "}"}, {"$(", ")"}, {"%!", ")"}, {"<%", "%>"}} {
		if _, rest, ok := strings.Cut(s, pair[0]); ok && strings.Contains(rest, pair[1]) {
			return true
		}
	}
	small := strings.ToLower(s)
	return s != tokenUser && strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") ||
		len(s) > 2 && strings.Trim(s, "*") == "" ||
		small == "[redacted]" || small == "redacted" || small == "(sensitive value)"
}

// runeName names a character for an error: what it is called, and its number.
func runeName(r rune) string {
	name := "the character"
	switch r {
	case '\n':
		name = "a line feed"
	case '\r':
		name = "a carriage return"
	case '\t':
		name = "a tab"
	case ' ':
		name = "a space"
	case 0:
		name = "a NUL character"
	case 0xa0, 0x202f:
		name = "a no-break space"
	case 0xad:
		name = "a soft hyphen"
	case 0x200b:
		name = "a zero-width space"
	case 0x200c, 0x200d, 0x2060:
		name = "a zero-width joiner"
	case 0xfeff:
		name = "a byte order mark"
	case utf8.RuneError:
		name = "a replacement character, which stands for a letter in an encoding other than UTF-8"
	case '“', '”', '„', '‘', '’', '‚':
		name = "a typographic quote"
	default:
		if unicode.IsControl(r) {
			name = "a control character"
		} else if unicode.IsSpace(r) {
			name = "a space"
		}
	}
	return fmt.Sprintf("%s (%U)", name, r)
}

// authHint says what an auth field that cannot be read seems to be; "" if that is
// not known.
func authHint(auth string) string {
	first, _ := utf8.DecodeRuneInString(auth)
	last, _ := utf8.DecodeLastRuneInString(auth)
	if once, ok := decodeBase64(auth); ok {
		if twice, ok := decodeBase64(string(once)); ok && bytes.ContainsRune(twice, ':') {
			return ": it was encoded twice"
		}
	}
	switch {
	case isPlaceholder(auth):
		return ": it looks like a placeholder that was never filled in"
	case isStray(last):
		return ": it ends with " + runeName(last)
	case isStray(first):
		return ": it begins with " + runeName(first)
	case strings.HasPrefix(strings.ToLower(auth), "basic "):
		return `: leave out the word "Basic"`
	case isQuotes(first, last):
		return ": it stands in quotes"
	}
	if hint := base64Hint(auth); hint != "" {
		return hint
	}
	if strings.Contains(auth, ":") {
		return ": it holds a colon, so it may be the text that should be encoded"
	}
	return ""
}

// entryHint says what an entry that is not an object seems to be.
func entryHint(m member) string {
	var l login
	if _, ok := l.fields(Rules{})[strings.ToLower(m.Key)]; ok {
		return ": the host is missing, auths maps hosts to entries"
	}
	switch strictjson.KindOf(m.Value) {
	case strictjson.KindString:
		return `: write {"auth": ...} around it`
	case strictjson.KindArray:
		if list, err := strictjson.Elements(m.Value); err == nil && slices.ContainsFunc(list, isEntry) {
			return ": leave out the list around it"
		}
	}
	return ""
}
