package credentials

import (
	"bytes"
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// advice returns warnings about a login that can be read and looks wrong. c is what
// was made of it.
func (l *login) advice(c Credential) []error {
	var found []string
	if what := notALogin(c.Username + ":" + c.Password.Reveal()); l.auth != "" && what != "" {
		found = append(found, "auth holds "+what+", where it must hold user:password")
	}
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
	if prefix := keys.Base64Prefix(c.Username + ":" + c.Password.Reveal()); l.auth != "" && prefix != "" {
		found = append(found, "auth was encoded twice: what it holds begins with "+quote(prefix))
	}
	var errs []error
	for _, what := range found {
		errs = append(errs, warning(ErrLooksWrong, what))
	}
	return errs
}

// notALogin says what a text with a colon in it is that is hardly a user name and
// password; "" if it may be.
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

// isStray reports whether a character at an edge of a text is one that no person types
// there on purpose.
func isStray(r rune) bool { return unicode.IsSpace(r) || isInvisible(r) }

// isInvisible reports whether a character cannot be seen wherever it is: control
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
	if once, ok := keys.DecodeBase64(auth); ok {
		if twice, ok := keys.DecodeBase64(string(once)); ok && bytes.ContainsRune(twice, ':') {
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
		return ": it is in quotes"
	case strings.HasPrefix(strings.ToLower(auth), "bearer "):
		return ": a bearer token belongs into registrytoken, without the word"
	}
	if hint := base64Hint(auth); hint != "" {
		return hint
	}
	if layers, _ := unwrap(auth, isLoginText); len(layers) > 1 {
		if slices.Compact(slices.Clone(layers))[0] == "base64" && len(slices.Compact(slices.Clone(layers))) == 1 {
			return ": it was encoded twice"
		}
		return ": it looks like " + strings.Join(layers, " around ") + " around user:password, which must be encoded once"
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

// maxLayers bounds how often a text is looked for inside of another one.
const maxLayers = 8

// unwrap takes off what programs put around a text, base64 for example, until wanted
// reports that the text is what it must be. layers say what was taken off, the outermost
// first; there are none if nothing was found.
func unwrap(text string, wanted func(string) bool) (layers []string, inner string) {
	for range maxLayers {
		text = strings.TrimSpace(string(inUTF8([]byte(text))))
		if wanted(text) {
			return layers, text
		}
		layer, inside := outerLayer(text)
		if layer == "" {
			return nil, ""
		}
		layers, text = append(layers, layer), inside
	}
	return nil, ""
}

// outerLayer names what is around a text, and returns what is inside; layer is "" if
// nothing is around it.
func outerLayer(text string) (layer, inside string) {
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	switch {
	case len(text) > 3 && (first == 'b' || first == 'B') && isQuotes(rune(text[1]), last):
		return "a bytes literal of Python (b'...')", text[2 : len(text)-1]
	case first == '"' && strictjson.KindOf([]byte(text)) == strictjson.KindString && strictjson.Valid([]byte(text)):
		inside, _, _ = readString([]byte(text))
		return "a string of JSON", inside
	case len(text) > 1 && isQuotes(first, last):
		return "quotes", text[utf8.RuneLen(first) : len(text)-utf8.RuneLen(last)]
	case strings.HasPrefix(strings.ToLower(text), "basic "):
		return `the word "Basic"`, text[len("basic "):]
	case strings.HasPrefix(text, "-----BEGIN"):
		_, inside, _ = strings.Cut(text, "\n")
		inside, _, _ = strings.Cut(inside, "-----END")
		return "PEM", inside
	case strings.Contains(text, `\n`), strings.Contains(text, `\r`):
		return "line ends that are written out (\\n)", strings.NewReplacer(`\r`, "", `\n`, "\n").Replace(text)
	case strings.Contains(text, "%"):
		if inside, err := url.PathUnescape(text); err == nil && inside != text {
			return "percent-encoding", inside
		}
	}
	if decoded, ok := keys.DecodeBase64(text); ok {
		return "base64", string(decoded)
	}
	return "", ""
}

// isDocumentText reports whether a text is like a credential document, or like a
// compressed one.
func isDocumentText(text string) bool {
	return strings.HasPrefix(text, "{") || strings.HasPrefix(text, "auths:") || strings.HasPrefix(text, "---\nauths:") || isGzip(text)
}

func isGzip(text string) bool { return strings.HasPrefix(text, "\x1f\x8b") }

// isLoginText reports whether a text is like a user name and password.
func isLoginText(text string) bool {
	return strings.Contains(text, ":") && keys.IsPrintable([]byte(text))
}

var byteOrderMark = []byte("\ufeff")

// templateMarks begin what only a template has.
var templateMarks = []string{"{{", "<%"}

// documentHint says what a document that is not JSON seems to be, and what to do;
// "" if that is not known. offset is where the reader of JSON gave up, from 1.
func documentHint(data []byte, offset int) string {
	text := bytes.TrimSpace(data)
	switch {
	case isUTF16(data):
		return "it is UTF-16, as Windows PowerShell writes files: save it as UTF-8"
	case bytes.HasPrefix(text, byteOrderMark):
		return "it begins with a byte order mark (U+FEFF): save it as UTF-8 without one"
	case isEncodedJSON(text):
		return "it looks like base64 of JSON: it was encoded twice"
	case len(text) > 1 && text[0] == '\'' && text[len(text)-1] == '\'':
		return "it is in single quotes: leave them out"
	case bytes.HasPrefix(text, []byte("{'")):
		return "it has single quotes where JSON has double ones"
	case bytes.HasPrefix(text, []byte("auths:")), bytes.HasPrefix(text, []byte("---\n")):
		return "it is YAML: write it as JSON"
	case isGzip(string(text)):
		return "it is compressed with gzip"
	}
	if layers, _ := unwrap(string(text), isDocumentText); len(layers) > 0 {
		return "it looks like " + strings.Join(layers, " around ") + " around a document: write the document as it is"
	}
	switch {
	case offset > len(bytes.TrimRight(data, jsonSpace)):
		return "it ends too soon, as if a part were cut off"
	}
	if offset < 1 || offset > len(data) {
		return ""
	}
	around := string(data[max(0, offset-2):min(len(data), offset+1)])
	for _, mark := range append(templateMarks, "${", "$(", "%!") {
		if strings.Contains(around, mark) {
			return "a template was left in it (" + mark + ")"
		}
	}
	if strings.HasPrefix(string(data[offset-1:]), "<no value>") {
		return "a template left <no value> in it"
	}
	start := offset - 1 // the reader counts bytes, and may be within a character
	for start > 0 && !utf8.RuneStart(data[start]) {
		start--
	}
	if r, _ := utf8.DecodeRune(data[start:]); isStray(r) || isTypographic(r) {
		return "there is " + runeName(r)
	}
	return syntaxHint(data, offset-1)
}

// syntaxHint says which of the commonest faults of a document that was edited by hand the
// reader of JSON gave up at; "" if it is none of them.
func syntaxHint(data []byte, at int) string {
	before, rest := bytes.TrimRight(data[:at], jsonSpace), data[at:]
	last := byte(0)
	if len(before) > 0 {
		last = before[len(before)-1]
	}
	isAdjacent := len(before) == at
	switch c := rest[0]; {
	case last == ',' && (c == '}' || c == ']'):
		return "there is a comma before a closing bracket: leave it out"
	case bytes.HasPrefix(rest, []byte("//")), bytes.HasPrefix(rest, []byte("/*")), c == '#':
		return "it has a comment, and JSON has none: leave it out"
	case c == '\\':
		return `a \ in a text is written \\`
	case strictjson.Valid(before) && strings.Trim(string(rest), "]}"+jsonSpace) == "":
		return "there is a closing bracket too many at its end: leave it out"
	case strictjson.Valid(before) && (c == '{' || c == '['):
		return "another document follows it: write one document that has what both have"
	case strictjson.Valid(before):
		return "there is something behind its end: leave it out"
	case last == '"' && isAdjacent && !strings.ContainsRune("{}[]", rune(c)):
		return `a " in a text is written \", and there is a comma or a colon behind a text`
	case strings.IndexByte(`"}]`, last) >= 0 && (c == '"' || c == '{'):
		return "a comma is missing"
	}
	return ""
}

func isTypographic(r rune) bool { return strings.ContainsRune("“”„‘’‚", r) }

func isUTF16(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) ||
		len(data) > 3 && (data[0] == 0) != (data[1] == 0) && (data[0] == 0) == (data[2] == 0) && (data[1] == 0) == (data[3] == 0)
}

// isEncodedJSON reports whether text is base64 of something that begins like a JSON
// object, be it encoded once more.
func isEncodedJSON(text []byte) bool {
	for range maxLayers {
		decoded, ok := keys.DecodeBase64(string(text))
		if !ok {
			return false
		}
		text = bytes.TrimSpace(inUTF8(decoded))
		if bytes.HasPrefix(text, []byte("{")) {
			return true
		}
	}
	return false
}

// base64Hint says what a text that must be base64, and is not, seems to be; "" if that
// is not known.
func base64Hint(text string) string {
	text = strings.TrimSpace(text)
	if prefix := keys.Base64Prefix(text); prefix != "" {
		return ": leave out " + quote(prefix)
	}
	if decoded, ok := keys.DecodeBase64(text); ok && strings.ContainsAny(text, "-_") {
		return ": it may be base64 for URLs, with - and _ in place of + and /"
	} else if ok && strings.ContainsAny(text, " \t") && decoded[0] == '{' {
		return ": there is space in it: write it on one line, without"
	}
	return ""
}

// inUTF8 is a text without its byte order mark, and in UTF-8 if it is UTF-16.
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

// stringHint says what a JSON string in place of a document seems to hold.
func stringHint(data []byte) string {
	s, _, err := readString(bytes.Trim(data, jsonSpace))
	if err != nil {
		return ""
	}
	switch text := strings.TrimSpace(s); {
	case strings.HasPrefix(text, "{"):
		return ": it holds JSON that was quoted once too often"
	case isEncodedJSON([]byte(text)):
		return ": it looks like base64 of JSON, encoded twice"
	default:
		if layers, _ := unwrap(text, isDocumentText); len(layers) > 0 {
			return ": it holds " + strings.Join(layers, " around ") + " around a document: write the document as it is"
		}
	}
	return ""
}

// arrayHint says what a list in place of a document seems to hold.
func arrayHint(data []byte) string {
	if w, ok := findWrapped(data, wrapping{}); ok {
		return ": the document is " + w.where() + ": leave out what is around it"
	}
	return ""
}

// formHints say what a document holds that was hardly meant so: entries where none
// are read, or a whole document inside of another one. top is the whole document.
func formHints(top []member, legacy bool) (hints []string) {
	if legacy {
		if slices.ContainsFunc(top, isLegacyAuths) {
			hints = append(hints, "the document has auths, which is the form of config.json and of the type "+TypeDockerConfigJSON+", not of .dockercfg")
		}
		return hints
	}
	if hint := foreignHint(top); hint != "" {
		return []string{hint}
	}
	outside, bare := false, ""
	for _, m := range top {
		name := strings.ToLower(strings.TrimSpace(m.Key))
		f := finder{registries: isDockerField(m.Key)}
		switch {
		case m.Key == "" || strings.EqualFold(m.Key, "auths"), f.registries && strings.HasPrefix(name, "cred"):
			continue
		case f.registries && hasEntries(m.Value):
			f.found = []wrapping{{names: []string{quoteName(m.Key)}, entries: true}}
		case f.registries:
			f.look(m.Value, wrapping{names: []string{quoteName(m.Key)}})
		case name == "auths",
			(name == "auth" || name == ".auths" || name == "authz" || name == "auth_s") && strictjson.KindOf(m.Value) == strictjson.KindObject:
			hints = append(hints, "the document has "+quote(m.Key)+", not auths")
		case isEntry(m.Value), isRegistryKey(m.Key) && strictjson.KindOf(m.Value) == strictjson.KindObject && !hasDocument(m.Value):
			outside = true
		case isRegistryKey(m.Key) && strictjson.KindOf(m.Value) == strictjson.KindString && jsonWithin(text(m.Value)) == nil:
			bare = m.Key
		default:
			f.look(m.Value, wrapping{names: []string{quoteName(m.Key)}})
		}
		for _, w := range f.found {
			hints = append(hints, w.hint(legacy))
		}
	}
	if outside {
		hints = append(hints, "the document has entries outside of auths, which is the form of .dockercfg and of the type "+TypeDockercfg)
	}
	if bare != "" {
		key := quote(keys.Redact(bare))
		hints = append(hints, "the document has "+key+` outside of auths: write it as {"auths": {`+key+`: {"auth": ...}}}`)
	}
	if isLogin(top) {
		hints = append(hints, `the document is one login without the registry that it is for: write it as {"auths": {"registry.example": ...}}`)
	}
	return hints
}

// foreignHint says what a document is that is not a credential file, although it holds a
// login; "" if that is not known.
func foreignHint(top []member) string {
	has := func(name string, kind string) bool {
		return slices.ContainsFunc(top, func(m member) bool { return m.Key == name && strictjson.KindOf(m.Value) == kind })
	}
	switch {
	case has("ServerURL", strictjson.KindString) && has("Secret", strictjson.KindString):
		return "the document is the answer of a credential helper: name the helper under credHelpers, or use docker login"
	case has("authorizationData", strictjson.KindArray):
		return "the document is the answer of aws ecr get-authorization-token: its authorizationToken is the auth of an entry under auths"
	case has("private_key", strictjson.KindString) && has("type", strictjson.KindString):
		return "the document is the key file of a service account: it is the password of the user _json_key"
	}
	return ""
}

// hasDocument reports whether a document, or entries, are somewhere in a value.
func hasDocument(data []byte) bool {
	_, ok := findWrapped(data, wrapping{})
	return ok
}

// text is the text of a JSON string; "" for any other value.
func text(data []byte) string {
	s, _, _ := readString(data)
	return s
}

// isLoginField reports whether a field of a document is one of an entry, with a value.
func isLoginField(m member) bool {
	var l login
	_, ok := l.fields(Rules{})[strings.ToLower(m.Key)]
	return ok && strictjson.KindOf(m.Value) == strictjson.KindString
}

// isLogin reports whether the fields of a document are those of a login.
func isLogin(top []member) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(top, func(m member) bool { return strings.EqualFold(m.Key, name) && text(m.Value) != "" })
	}
	return has("auth") || has("password") && (has("username") || has("login") || has("user")) || has("identitytoken") || has("registrytoken")
}

// isDockerField reports whether a field is one that docker's config.json has.
func isDockerField(name string) bool {
	switch strings.ToLower(name) {
	case "auths", "httpheaders", "credsstore", "credhelpers", "proxies", "plugins", "aliases", "features", "kubernetes":
		return true
	}
	return false
}

// isLegacyAuths reports whether m is the auths object of a config.json that was
// written into a .dockercfg.
func isLegacyAuths(m member) bool {
	return m.Key == "auths" && strictjson.KindOf(m.Value) == strictjson.KindObject
}

// A wrapping is the place of a credential document that is inside of something else.
type wrapping struct {
	names   []string // of the fields around it, quoted, the outermost first; "" for a list
	inAuths bool     // the outermost is auths, which belongs there
	entries bool     // it is entries without auths around them
}

// where says what the document is in, the innermost first: under "value" in "data".
func (w wrapping) where() string {
	var b strings.Builder
	behind := "" // what the step before this one was
	for _, name := range slices.Backward(w.names) {
		step := "in a list"
		if name != "" {
			step = "under " + name
			if behind == "name" {
				step = "in " + name
			}
		}
		if behind != "" {
			b.WriteString(" ")
		}
		b.WriteString(step)
		behind = "list"
		if name != "" {
			behind = "name"
		}
	}
	return b.String()
}

// hint says where the document is and what to do.
func (w wrapping) hint(legacy bool) string {
	switch {
	case !w.entries && legacy:
		return "a document in the form of config.json is within another one, " + w.where() + ": leave out what is around it, and use the type " + TypeDockerConfigJSON
	case !w.entries:
		return "the document is within another one, " + w.where() + ": leave out what is around it"
	case legacy || w.inAuths:
		return "the entries are " + w.where() + ": leave out what is around them"
	}
	return "the entries are " + w.where() + ": leave out what is around them, and put them under auths"
}

const (
	// maxWrapped bounds how much is looked through for documents, in bytes: what is deep
	// inside is looked through once for each value around it.
	maxWrapped = 64 << 20
	// maxWrapping bounds how deep a document is looked for.
	maxWrapping = 1000
)

// A finder looks for credential documents, and for the entries of such, that are inside of
// something else.
type finder struct {
	found []wrapping
	// registries says that only entries are looked for whose key is a registry's name,
	// and documents that have such: the value may have fields that are called as those of
	// an entry are.
	registries bool
	effort     int // how many bytes were looked through
}

// findWrapped looks for the first document, or the first entries, in a value. w is the
// way to the value.
func findWrapped(data []byte, w wrapping) (wrapping, bool) {
	var f finder
	f.look(data, w)
	if len(f.found) == 0 {
		return w, false
	}
	return f.found[0], true
}

// look looks for all that there is in a value: as it is, as text, or as base64.
func (f *finder) look(data []byte, w wrapping) {
	if f.effort += len(data); f.effort > maxWrapped || len(w.names) > maxWrapping || len(f.found) == maxListed {
		return
	}
	if strictjson.KindOf(data) == strictjson.KindString {
		s, _, err := readString(data)
		if err != nil {
			return
		}
		data = jsonWithin(s)
	}
	names := slices.Clip(w.names)
	switch strictjson.KindOf(data) {
	case strictjson.KindArray:
		list, _ := strictjson.Elements(data)
		for _, element := range list {
			w.names = append(names, "")
			f.look(element, w)
		}
	case strictjson.KindObject:
		members, err := readObject(data)
		if err != nil {
			return
		}
		isAuths := func(m member) bool {
			return strings.EqualFold(m.Key, "auths") && (!f.registries || hasEntries(m.Value))
		}
		w.entries = !slices.ContainsFunc(members, isAuths)
		if !w.entries || slices.ContainsFunc(members, func(m member) bool { return isEntry(m.Value) && (!f.registries || isRegistryKey(m.Key)) }) {
			f.found = append(f.found, w)
			return
		}
		for _, m := range members {
			w.names = append(names, quoteName(m.Key))
			f.look(m.Value, w)
		}
	}
}

// hasEntries reports whether a value is an object with entries for registries.
func hasEntries(data []byte) bool {
	members, err := readObject(data)
	return err == nil && slices.ContainsFunc(members, func(m member) bool { return isRegistryKey(m.Key) && isEntry(m.Value) })
}

// isRegistryKey reports whether the name of a field is like a key of auths.
func isRegistryKey(name string) bool {
	hostport, _ := keys.CutPath(keys.CutScheme(name))
	return isRegistry(hostport) && strings.Trim(hostport, ".:") != "" && !strings.ContainsAny(name, " \\")
}

// withinEntry looks for other logins inside of an entry that has one, which is where they
// are if a brace is closed too late.
func withinEntry(m member) (hints []string) {
	members, err := readObject(m.Value)
	if err != nil {
		return nil
	}
	for _, inner := range members {
		kind := strictjson.KindOf(inner.Value)
		if kind != strictjson.KindObject && kind != strictjson.KindArray {
			continue
		}
		if isRegistryKey(inner.Key) && isEntry(inner.Value) {
			hints = append(hints, "the entry of "+quote(keys.Redact(inner.Key))+" is within this one: close the brace of this entry before it")
			continue
		}
		f := finder{registries: true}
		f.look(inner.Value, wrapping{names: []string{quoteName(inner.Key)}})
		if strings.EqualFold(inner.Key, "auths") && hasEntries(inner.Value) {
			f.found = []wrapping{{names: []string{quoteName(inner.Key)}}}
		}
		for _, w := range f.found {
			hints = append(hints, "other entries are within this one, "+w.where()+": close the brace of this entry before them")
		}
	}
	return hints
}

// jsonWithin returns the JSON object or array that a text holds, as it is or as
// base64, be it encoded more than once; nil if there is none.
func jsonWithin(text string) []byte {
	data := []byte(text)
	for range maxLayers {
		if kind := strictjson.KindOf(data); (kind == strictjson.KindObject || kind == strictjson.KindArray) && strictjson.Valid(data) {
			return data
		}
		decoded, ok := keys.DecodeBase64(string(data))
		if !ok {
			return nil
		}
		data = inUTF8(decoded)
	}
	if strictjson.KindOf(data) == strictjson.KindObject && strictjson.Valid(data) {
		return data
	}
	return nil
}

// entryWrapping looks for what is in place of an entry of auths: a document, or
// entries. names are what is around the entry.
func entryWrapping(m member, names ...string) (wrapping, bool) {
	w := wrapping{names: append(names, quote(keys.Redact(m.Key))), inAuths: len(names) > 0}
	return findWrapped(m.Value, w)
}

// fieldsWrapping says that the fields of an entry are one level too deep: its key is
// a registry's, and what is inside is not.
func fieldsWrapping(m member) string {
	members, err := readObject(m.Value)
	if host, _ := keys.CutPath(keys.CutScheme(m.Key)); err != nil || !isRegistry(host) {
		return ""
	}
	for _, inner := range members {
		if isEntry(inner.Value) && plainName(inner.Key) {
			return "the entry's fields are under " + quoteName(inner.Key) + ": leave out what is around them"
		}
	}
	return ""
}

// isEntry reports whether a value is an entry as auths has them.
func isEntry(data []byte) bool {
	members, err := readObject(data)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(members, isLoginField)
}

// quoteName quotes the name of a field if it is so plain that an error may repeat it.
func quoteName(name string) string {
	if !plainName(strings.Trim(name, ".")) {
		return "another field"
	}
	return quote(name)
}

// markerHint says of an entry without any credential which fields it has.
func markerHint(m member) string {
	if hint := fieldsWrapping(m); hint != "" {
		return hint
	}
	members, err := readObject(m.Value)
	if err != nil || len(members) == 0 {
		return "the entry is empty"
	}
	var names []string
	for _, m := range members {
		if plainName(m.Key) && len(names) < 5 {
			names = append(names, m.Key)
		}
	}
	return fmt.Sprintf("the entry has none of username, password, auth, identitytoken and registrytoken with a value (it has %s)",
		cmp.Or(strings.Join(names, ", "), "other fields"))
}

// authsHint says what auths seems to be that is not an object.
func authsHint(m member) string {
	if w, ok := findWrapped(m.Value, wrapping{names: []string{quote("auths")}, inAuths: true}); ok {
		return ": " + w.hint(false)
	}
	return ""
}
