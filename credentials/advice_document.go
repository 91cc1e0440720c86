package credentials

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

var byteOrderMark = []byte("\ufeff")

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
		return "it stands in single quotes: leave them out"
	case bytes.HasPrefix(text, []byte("{'")):
		return "it has single quotes where JSON has double ones"
	case bytes.HasPrefix(text, []byte("auths:")):
		return "it is YAML: write it as JSON"
	case offset > len(bytes.TrimRight(data, jsonSpace)):
		return "it ends too soon, as if a part were cut off"
	}
	if offset < 1 || offset > len(data) {
		return ""
	}
	around := string(data[max(0, offset-2):min(len(data), offset+1)])
	for _, mark := range []string{"{{", "${", "$(", "<%", "%!"} {
		if strings.Contains(around, mark) {
			return "a template was left in it (" + mark + ")"
		}
	}
	if strings.HasPrefix(string(data[offset-1:]), "<no value>") {
		return "a template left <no value> in it"
	}
	start := offset - 1 // the reader counts bytes, and may stand within a character
	for start > 0 && !utf8.RuneStart(data[start]) {
		start--
	}
	if r, _ := utf8.DecodeRune(data[start:]); isStray(r) || isTypographic(r) {
		return "there is " + runeName(r)
	}
	return ""
}

func isTypographic(r rune) bool { return strings.ContainsRune("“”„‘’‚", r) }

func isUTF16(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) ||
		len(data) > 3 && (data[0] == 0 && data[1] == '{' || data[0] == '{' && data[1] == 0)
}

// isEncodedJSON reports whether text is base64, wrapped or not, of something that
// begins like a JSON object, be it encoded once more.
func isEncodedJSON(text []byte) bool {
	for range 3 {
		flat := bytes.Map(func(r rune) rune {
			if strings.ContainsRune(jsonSpace, r) {
				return -1
			}
			return r
		}, text)
		decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(string(flat), "="))
		if err != nil || len(decoded) == 0 {
			return false
		}
		text = bytes.TrimSpace(bytes.TrimPrefix(decoded, byteOrderMark))
		if bytes.HasPrefix(text, []byte("{")) {
			return true
		}
	}
	return false
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
	}
	return ""
}

// emptyHint says why a document that can be read holds no entries; "" if it may be
// meant so. top is the whole document, auths what its auths objects hold.
func emptyHint(top []member, legacy bool, auths []member) string {
	if legacy {
		if i := slices.IndexFunc(top, func(m member) bool { return m.name == "auths" && kindOf(m.value) == "object" }); i >= 0 {
			return "the document has auths, which is the form of config.json and of the type " + TypeDockerConfigJSON + ", not of .dockercfg"
		}
		return ""
	}
	if len(auths) > 0 {
		return ""
	}
	for _, m := range top {
		switch name := strings.ToLower(strings.TrimSpace(m.name)); {
		case name == "auths" && m.name != name && strings.TrimSpace(m.name) != m.name,
			(name == "auth" || name == ".auths" || name == "authz" || name == "auth_s") && kindOf(m.value) == "object":
			return "the document has " + quote(m.name) + ", not auths"
		case isEntry(m.value):
			return "the document has entries outside of auths, which is the form of .dockercfg and of the type " + TypeDockercfg
		case isWrapped(m.value):
			return "the document stands within another one, under " + quoteName(m.name) + ": leave out what is around it"
		}
	}
	return ""
}

// isEntry reports whether a value is an entry as it stands under auths.
func isEntry(data []byte) bool {
	members, err := readObject(data)
	if err != nil {
		return false
	}
	var l login
	fields := l.fields(Rules{})
	return slices.ContainsFunc(members, func(m member) bool {
		_, ok := fields[strings.ToLower(m.name)]
		return ok && kindOf(m.value) == "string"
	})
}

// isWrapped reports whether a value is a whole credential document: an object with
// auths or with entries, as it is, as text, or as base64.
func isWrapped(data []byte) bool {
	if kindOf(data) == "string" {
		s, _, err := readString(data)
		if err != nil {
			return false
		}
		if isEncodedJSON([]byte(s)) {
			return true
		}
		if data = []byte(s); !json.Valid(data) {
			return false
		}
	}
	members, err := readObject(data)
	return err == nil && kindOf(data) == "object" && slices.ContainsFunc(members, func(m member) bool {
		return strings.EqualFold(m.name, "auths") || isEntry(m.value)
	})
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
	members, err := readObject(m.value)
	if err != nil || len(members) == 0 {
		return "the entry is empty"
	}
	var names []string
	for _, m := range members {
		if plainName(m.name) && len(names) < 5 {
			names = append(names, m.name)
		}
	}
	return fmt.Sprintf("the entry has none of username, password, auth, identitytoken and registrytoken with a value (it has %s)",
		cmp.Or(strings.Join(names, ", "), "other fields"))
}
