package diagnose

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// A wrapping is the place of a credential document, or of entries, inside of something
// else.
type wrapping struct {
	names   []string // of the fields around it, quoted, the outermost first; "" for a list
	inAuths bool     // the outermost is auths, which is right
	entries bool     // the place is that of entries without auths around them
}

// where returns a text that names the place, the innermost field first: under "value" in
// "data".
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

// hint says where the document or the entries are, and what to do.
func (w wrapping) hint(legacy bool) string {
	switch {
	case !w.entries && legacy:
		return "a document in the form of config.json is within another one, " + w.where() + ": leave out what is around it, and use the type " + typeConfigJSON
	case !w.entries:
		return "the document is within another one, " + w.where() + ": leave out what is around it"
	case legacy || w.inAuths:
		return "the entries are " + w.where() + ": leave out what is around them"
	}
	return "the entries are " + w.where() + ": leave out what is around them, and put them under auths"
}

const (
	// maxWrapped is the number of bytes that are searched for documents. A value counts
	// once for each value around it, because it is searched that often.
	maxWrapped = 64 << 20
	// maxWrapping is the depth to which a value is searched.
	maxWrapping = 1000
)

// A finder searches a value for credential documents and for entries.
type finder struct {
	found []wrapping
	// registries limits the search to entries whose key is a registry's name, and to
	// documents with such entries. It is for values whose fields may have the names of
	// a login's fields.
	registries bool
	effort     int // the number of bytes that were searched
}

// findWrapped returns the place of the first document, or of the first entries, in a value.
// w is the place of the value. It reports false if there is no document and no entry in it.
func findWrapped(data []byte, w wrapping) (wrapping, bool) {
	var f finder
	f.look(data, w)
	if len(f.found) == 0 {
		return w, false
	}
	return f.found[0], true
}

// look adds the places of all documents and entries in a value, including those in a text
// or in base64. w is the place of the value.
func (f *finder) look(data []byte, w wrapping) {
	if f.effort += len(data); f.effort > maxWrapped || len(w.names) > maxWrapping || len(f.found) == maxListed {
		return
	}
	if strictjson.KindOf(data) == strictjson.KindString {
		s, err := strictjson.String(data)
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
		members, err := strictjson.Members(data)
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
			w.names = append(names, keys.QuoteName(m.Key))
			f.look(m.Value, w)
		}
	}
}

// hasDocument reports whether there is a document, or an entry, anywhere in a value.
func hasDocument(data []byte) bool {
	_, ok := findWrapped(data, wrapping{})
	return ok
}

// hasEntries reports whether a value is an object with entries for registries.
func hasEntries(data []byte) bool {
	members, err := strictjson.Members(data)
	return err == nil && slices.ContainsFunc(members, func(m member) bool { return isRegistryKey(m.Key) && isEntry(m.Value) })
}

// isRegistryKey reports whether the name of a field looks like a key of auths.
func isRegistryKey(name string) bool {
	hostport, _ := keys.CutPath(keys.CutScheme(name))
	return isRegistry(hostport) && strings.Trim(hostport, ".:") != "" && !strings.ContainsAny(name, " \\")
}

// jsonWithin returns the JSON object or array that a text holds: as it is, or in base64,
// even if it was encoded more than once. It returns nil if the text holds none.
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

// maxLayers is how many layers around a text, such as base64, are removed.
const maxLayers = 8

// unwrap removes what programs put around a text, such as base64, until isWanted is true
// for the rest. It returns the names of what it removed, the outermost first, and the
// rest. If isWanted is never true, it returns nothing.
func unwrap(text string, isWanted func(string) bool) (layers []string, inner string) {
	for range maxLayers {
		text = strings.TrimSpace(string(inUTF8([]byte(text))))
		if isWanted(text) {
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

// outerLayer returns a name for what is around a text, and what is inside; "" if nothing is
// around it.
func outerLayer(text string) (layer, inside string) {
	first, _ := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	switch {
	case len(text) > 3 && (first == 'b' || first == 'B') && isQuotes(rune(text[1]), last):
		return "a bytes literal of Python (b'...')", text[2 : len(text)-1]
	case first == '"' && strictjson.KindOf([]byte(text)) == strictjson.KindString && strictjson.Valid([]byte(text)):
		inside, _ = strictjson.String([]byte(text))
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

// isDocumentText reports whether a text looks like a credential document, or like a
// compressed one.
func isDocumentText(text string) bool {
	return strings.HasPrefix(text, "{") || strings.HasPrefix(text, "auths:") || strings.HasPrefix(text, "---\nauths:") || isGzip(text)
}

func isGzip(text string) bool { return strings.HasPrefix(text, "\x1f\x8b") }

// isLoginText reports whether a text looks like a user name and a password.
func isLoginText(text string) bool {
	return strings.Contains(text, ":") && keys.IsPrintable([]byte(text))
}

// isEncodedJSON reports whether a text is base64 of something that begins like a JSON
// object, even if it was encoded more than once.
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
