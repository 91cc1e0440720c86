package diagnose

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// A Login holds the fields of an entry as they are written.
type Login struct {
	Auth, Username, Password, IdentityToken, RegistryToken string
}

// Odd returns hints about what looks wrong in a login that can be read. username and
// password are those that are used: those in Auth, if Auth is not empty.
func (l Login) Odd(username, password string) []string {
	var found []string
	if what := notALogin(username + ":" + password); l.Auth != "" && what != "" {
		found = append(found, "auth holds "+what+", where it must hold user:password")
	}
	for _, part := range []struct{ name, text string }{
		{"the user name", username}, {"the password", password},
		{"the identity token", l.IdentityToken}, {"the registry token", l.RegistryToken},
	} {
		if what := oddText(part.text); what != "" {
			found = append(found, part.name+" "+what)
		}
	}
	token := l.IdentityToken != "" || l.RegistryToken != ""
	switch {
	case token:
	case username == "" && password != "":
		found = append(found, "it has a password and no user name")
	case username != "" && password == "":
		found = append(found, "it has a user name and no password")
	}
	if l.Auth != "" && (l.Username != "" && l.Username != username || l.Password != "" && l.Password != password) {
		found = append(found, "auth holds another login than username and password, and auth counts")
	}
	if prefix := keys.Base64Prefix(username + ":" + password); l.Auth != "" && prefix != "" {
		found = append(found, "auth was encoded twice: what it holds begins with "+quote(prefix))
	}
	return found
}

// notALogin says what a text with a colon in it seems to be, if it is probably not a user
// name and a password; "" if it may be one.
func notALogin(text string) string {
	trimmed := strings.TrimSpace(text)
	small := strings.ToLower(trimmed)
	switch {
	case isUTF16([]byte(text)):
		return "UTF-16"
	case (strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[")) && strictjson.Valid([]byte(trimmed)):
		return "JSON"
	case strings.HasPrefix(small, "basic "), strings.HasPrefix(small, "bearer "), strings.HasPrefix(small, "authorization:"):
		return "the words of a header"
	case strings.HasPrefix(small, "auths:"):
		return "YAML"
	}
	return ""
}

// Auth says what an auth field that cannot be read seems to be.
func Auth(auth string) string {
	first, _ := utf8.DecodeRuneInString(auth)
	last, _ := utf8.DecodeLastRuneInString(auth)
	if once, ok := keys.DecodeBase64(auth); ok {
		if twice, ok := keys.DecodeBase64(string(once)); ok && bytes.ContainsRune(twice, ':') {
			return "it was encoded twice"
		}
	}
	switch {
	case isPlaceholder(auth):
		return "it looks like a placeholder that was never filled in"
	case isStray(last):
		return "it ends with " + runeName(last)
	case isStray(first):
		return "it begins with " + runeName(first)
	case strings.HasPrefix(strings.ToLower(auth), "basic "):
		return `leave out the word "Basic"`
	case isQuotes(first, last):
		return "it is in quotes"
	case strings.HasPrefix(strings.ToLower(auth), "bearer "):
		return "a bearer token belongs in registrytoken, without the word Bearer"
	}
	if hint := base64Hint(auth); hint != "" {
		return hint
	}
	if layers, _ := unwrap(auth, isLoginText); len(layers) > 1 {
		if slices.Compact(slices.Clone(layers))[0] == "base64" && len(slices.Compact(slices.Clone(layers))) == 1 {
			return "it was encoded twice"
		}
		return "it looks like " + strings.Join(layers, " around ") + " around user:password, which must be encoded once"
	}
	if strings.Contains(auth, ":") {
		return "it holds a colon, so it may be the text that should be encoded"
	}
	return ""
}

// base64Hint is for a text that must be base64 and is not. It says what the text seems to
// be; "" if that is not known.
func base64Hint(text string) string {
	text = strings.TrimSpace(text)
	if prefix := keys.Base64Prefix(text); prefix != "" {
		return "leave out " + quote(prefix)
	}
	if decoded, ok := keys.DecodeBase64(text); ok && strings.ContainsAny(text, "-_") {
		return "it may be base64 for URLs, with - and _ in place of + and /"
	} else if ok && strings.ContainsAny(text, " \t") && decoded[0] == '{' {
		return "there is space in it: write it on one line without space"
	}
	return ""
}

// oddText says what an editor, a shell or a template seems to have added to a user name,
// a password or a token; "" if nothing looks wrong. The only part of the text that it
// shows is a single invisible character.
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
		return "is in quotes, which are part of it: remove them if they were meant for a shell or for YAML"
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

// isStray reports whether a character is probably a mistake at the beginning or the end of
// a text: space, or an invisible character.
func isStray(r rune) bool { return unicode.IsSpace(r) || isInvisible(r) }

// isInvisible reports whether a character cannot be seen: a control character, or one of
// Unicode's characters for formatting, such as the zero-width space.
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

func isTypographic(r rune) bool { return strings.ContainsRune("“”„‘’‚", r) }

// tokenUser is the user name with which docker's helpers mark an identity token.
const tokenUser = "<token>"

// isPlaceholder reports whether a template, a shell or a program that masks secrets seems
// to have left something in s in place of a value.
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

// runeName returns the name of a character for an error, with its number.
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
		name = "a replacement character, which is in place of a letter that is not UTF-8"
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

func isUTF16(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) ||
		len(data) > 3 && (data[0] == 0) != (data[1] == 0) && (data[0] == 0) == (data[2] == 0) && (data[1] == 0) == (data[3] == 0)
}

// inUTF8 returns a text without its byte order mark, and in UTF-8 if it was UTF-16.
func inUTF8(data []byte) []byte {
	if !isUTF16(data) {
		return bytes.TrimPrefix(data, byteOrderMark)
	}
	bigEndian := data[0] == 0xfe || data[0] == 0
	units := make([]uint16, len(data)/2)
	for i := range units {
		low, high := data[2*i], data[2*i+1]
		if bigEndian {
			low, high = high, low
		}
		units[i] = uint16(high)<<8 | uint16(low)
	}
	return []byte(strings.TrimPrefix(string(utf16.Decode(units)), string(byteOrderMark)))
}
