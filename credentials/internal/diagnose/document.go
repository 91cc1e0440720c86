package diagnose

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
)

var byteOrderMark = []byte("\ufeff")

// templateMarks are the texts with which only an expression of a template begins.
var templateMarks = []string{"{{", "<%"}

// Document says what a text that is not a JSON object seems to be, and what to do. offset
// is the position, from 1, at which the reader of JSON stopped; 0 if that is not known,
// or if data is valid JSON.
func Document(data []byte, offset int) string {
	if strictjson.Valid(data) {
		return cmp.Or(stringHint(data), arrayHint(data))
	}
	return syntaxHint(data, offset)
}

// syntaxHint says what a document that is not JSON seems to be.
func syntaxHint(data []byte, offset int) string {
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
	if offset > len(bytes.TrimRight(data, jsonSpace)) {
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
	start := offset - 1 // offset may be within a character, because the reader counts bytes
	for start > 0 && !utf8.RuneStart(data[start]) {
		start--
	}
	if r, _ := utf8.DecodeRune(data[start:]); isStray(r) || isTypographic(r) {
		return "there is " + runeName(r)
	}
	return editingHint(data, offset-1)
}

// editingHint says what is wrong at the byte at which the reader of JSON stopped, if the
// fault is common in documents that were edited by hand, and returns "" otherwise. at
// counts from 0.
func editingHint(data []byte, at int) string {
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
		return `write a \ in a text as \\`
	case strictjson.Valid(before) && strings.Trim(string(rest), "]}"+jsonSpace) == "":
		return "there is a closing bracket too many at its end: leave it out"
	case strictjson.Valid(before) && (c == '{' || c == '['):
		return "another document follows it: merge both into one"
	case strictjson.Valid(before):
		return "there is text after its end: leave it out"
	case last == '"' && isAdjacent && !strings.ContainsRune("{}[]", rune(c)):
		return `write a " in a text as \", and a comma or a colon after each text`
	case strings.IndexByte(`"}]`, last) >= 0 && (c == '"' || c == '{'):
		return "a comma is missing"
	}
	return ""
}

// stringHint says what a string of JSON in place of a document seems to hold.
func stringHint(data []byte) string {
	s, err := strictjson.String(bytes.Trim(data, jsonSpace))
	if err != nil {
		return ""
	}
	switch text := strings.TrimSpace(s); {
	case strings.HasPrefix(text, "{"):
		return "it holds JSON that was quoted once too often"
	case isEncodedJSON([]byte(text)):
		return "it looks like base64 of JSON, encoded twice"
	default:
		if layers, _ := unwrap(text, isDocumentText); len(layers) > 0 {
			return "it holds " + strings.Join(layers, " around ") + " around a document: write the document as it is"
		}
	}
	return ""
}

// arrayHint says what an array in place of a document seems to hold.
func arrayHint(data []byte) string {
	if w, ok := findWrapped(data, wrapping{}); ok {
		return "the document is " + w.where() + ": leave out what is around it"
	}
	return ""
}

// Auths says what is in place of the object of entries in a document, if that is not an
// object.
func Auths(value []byte) string {
	if w, ok := findWrapped(value, wrapping{names: []string{quote("auths")}, inAuths: true}); ok {
		return w.hint(false)
	}
	return ""
}

// foreignHint is for a document that may hold a login and is not a credential file. It
// says what the document seems to be; "" if that is not known.
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

// Fields returns hints about what is probably a mistake in a document: entries in a place
// where none are read, or a whole document inside of another one. top are all fields of the
// document. legacy says that they are entries, as in a .dockercfg.
func Fields(top []strictjson.Member, legacy bool) (hints []string) {
	if legacy {
		if slices.ContainsFunc(top, isLegacyAuths) {
			hints = append(hints, "the document has auths, which is the form of config.json and of the type "+typeConfigJSON+", not of .dockercfg")
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
			f.found = []wrapping{{names: []string{keys.QuoteName(m.Key)}, entries: true}}
		case f.registries:
			f.look(m.Value, wrapping{names: []string{keys.QuoteName(m.Key)}})
		case name == "auths",
			(name == "auth" || name == ".auths" || name == "authz" || name == "auth_s") && strictjson.KindOf(m.Value) == strictjson.KindObject:
			hints = append(hints, "the document has "+quote(m.Key)+", not auths")
		case isEntry(m.Value), isRegistryKey(m.Key) && strictjson.KindOf(m.Value) == strictjson.KindObject && !hasDocument(m.Value):
			outside = true
		case isRegistryKey(m.Key) && strictjson.KindOf(m.Value) == strictjson.KindString && jsonWithin(text(m.Value)) == nil:
			bare = m.Key
		default:
			f.look(m.Value, wrapping{names: []string{keys.QuoteName(m.Key)}})
		}
		for _, w := range f.found {
			hints = append(hints, w.hint(legacy))
		}
	}
	if outside {
		hints = append(hints, "the document has entries outside of auths, which is the form of .dockercfg and of the type "+typeDockercfg)
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

// isLegacyAuths reports whether m is the auths object of a config.json that a user wrote
// into a .dockercfg.
func isLegacyAuths(m member) bool {
	return m.Key == "auths" && strictjson.KindOf(m.Value) == strictjson.KindObject
}

// isDockerField reports whether a name is that of a field of docker's config.json.
func isDockerField(name string) bool {
	switch strings.ToLower(name) {
	case "auths", "httpheaders", "credsstore", "credhelpers", "proxies", "plugins", "aliases", "features", "kubernetes":
		return true
	}
	return false
}

// isLogin reports whether the fields of a document are those of a login.
func isLogin(top []member) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(top, func(m member) bool { return strings.EqualFold(m.Key, name) && text(m.Value) != "" })
	}
	return has("auth") || has("password") && (has("username") || has("login") || has("user")) || has("identitytoken") || has("registrytoken")
}
