package diagnose

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// An object holds the fields by which an object of a manifest says what it is. A field
// whose name is nearly right counts as the field.
type object struct {
	kind            string // "" if there is none, or it is not a string
	kindField       string // the name of the field as it is written; "" if there is none
	kindValue       []byte
	items           []byte
	itemsField      string // the name of the field as it is written
	isPullSecret    bool   // it has the type or the data of a pull secret
	hasSecretFields bool
}

func readAsObject(members []member) object {
	var o object
	for _, f := range members {
		switch name := strings.TrimSpace(f.Key); {
		case f.Key == "kind", strings.EqualFold(name, "kind") && o.kindField == "":
			o.kindField, o.kindValue = f.Key, f.Value
		case f.Key == "items", strings.EqualFold(name, "items") && o.items == nil:
			o.itemsField, o.items = f.Key, f.Value
		case strings.EqualFold(name, "type"), strings.EqualFold(name, "data"), strings.EqualFold(name, "stringData"):
			o.hasSecretFields = true
			o.isPullSecret = o.isPullSecret || bytes.Contains(f.Value, []byte("dockerc"))
		}
	}
	if o.kindField == "kind" {
		o.kind, _ = strictjson.String(o.kindValue)
	}
	return o
}

// listFault says what is wrong with the fields of a list of objects; nil if nothing is.
func (o object) listFault() error {
	switch {
	case o.kind == "" && o.kindField == "":
		return errors.New("has items and no kind: write kind: List")
	case o.kind == "":
		return fmt.Errorf("has items and %s: write kind: List", o.kindFault())
	case !strings.HasSuffix(o.kind, "List"):
		return fmt.Errorf("is of kind %s: write kind: List", quote(o.kind))
	case o.items != nil && o.itemsField != "items":
		return fmt.Errorf("has a field %s, which must be written items", quote(o.itemsField))
	}
	return nil
}

// secretFault says why an object that seems to be a Secret is not one; nil if it does not
// seem to be a Secret.
func (o object) secretFault(members []member) error {
	isObject := slices.ContainsFunc(members, func(f member) bool { return f.Key == "metadata" })
	switch {
	case o.kind == "" && slices.ContainsFunc(members, func(f member) bool {
		return strings.HasPrefix(f.Key, "//") && (mentionsSecret([]byte(f.Key)) || mentionsSecret(f.Value))
	}):
		return errors.New("has a comment with //, which is taken for a part of the field after it: leave it out")
	case o.kind != "" && resembles(o.kind, "Secret"):
		return fmt.Errorf("is of kind %s: write kind: Secret", quote(o.kind))
	case o.kind != "":
		return nil
	case o.isPullSecret, o.hasSecretFields && isObject, mentionsSecret(o.kindValue):
		return fmt.Errorf("has %s: write kind: Secret", o.kindFault())
	}
	return nil
}

// isCredentialFile reports whether the fields of an object are those of a credential file.
func isCredentialFile(members []member) bool {
	return slices.ContainsFunc(members, func(f member) bool {
		return isLegacyAuths(f) || isRegistryKey(f.Key) && isEntry(f.Value)
	})
}

// mentionsSecret reports whether a value has the word secret in it.
func mentionsSecret(value []byte) bool {
	return bytes.Contains(bytes.ToLower(value), []byte("secret"))
}

// kindFault says what the object has in place of a kind.
func (o object) kindFault() string {
	switch found := strictjson.KindOf(o.kindValue); {
	case o.kindField != "" && o.kindField != "kind":
		return fmt.Sprintf("a field %s and no kind", quote(o.kindField))
	case found == strictjson.KindNull, found == strictjson.KindString:
		return "no kind"
	default:
		return fmt.Sprintf("a kind that is %s", strictjson.Describe(o.kindValue))
	}
}

// hasItemsByKind reports whether a kind is that of a list of objects, or was meant to be.
func hasItemsByKind(kind string) bool {
	return strings.HasSuffix(kind, "List") || resembles(kind, "List") || resembles(kind, "SecretList")
}

// mayHoldSecrets reports whether an object of a kind is a Secret or a list that may hold
// Secrets, or was meant to be one.
func mayHoldSecrets(kind string) bool { return resembles(kind, "Secret") || hasItemsByKind(kind) }

// resembles reports whether a word is a kind, or was meant to be: it is in another case, in
// the plural, or has one wrong letter.
func resembles(word, kind string) bool {
	letters := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, word)
	kind = strings.ToLower(kind)
	return letters == kind || letters == kind+"s" || len(kind) > len("list") && nearly(letters, kind)
}

// nearly reports whether two words differ in one letter: another letter, one more, one
// less, or two in the wrong order.
func nearly(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}

// readAbout reads the kind and the names of an object, as far as they can be read.
func readAbout(data []byte, kind, name, namespace *string) {
	members, _ := strictjson.Members(data)
	for _, f := range members {
		switch f.Key {
		case "kind":
			*kind, _ = strictjson.String(f.Value)
		case "metadata":
			*name, *namespace = namesOf(f.Value)
		}
	}
}

// namesOf returns the names in the metadata of an object, as far as they can be read.
func namesOf(metadata []byte) (name, namespace string) {
	members, _ := strictjson.Members(metadata)
	for _, f := range members {
		switch f.Key {
		case "name":
			name, _ = strictjson.String(f.Value)
			if number := strings.TrimSpace(string(f.Value)); strictjson.KindOf(f.Value) == strictjson.KindNumber && keys.IsObjectName(number) {
				name = number
			}
		case "namespace":
			namespace, _ = strictjson.String(f.Value)
		}
	}
	return name, namespace
}

// guessAbout finds the kind and the names of an object in its text. It is for objects that
// cannot be read, for example because a template was left in them.
func guessAbout(text string) (kind, name, namespace string) {
	if isFlow(text) {
		members, _ := flowParts(text)
		for _, f := range members {
			switch f.name {
			case "kind":
				kind = likelier(kind, unquoted(f.value))
			case "metadata":
				name, namespace = flowNames(f.value)
			}
		}
		return kind, name, namespace
	}
	inMetadata := false
	indent := 0 // the indentation of the members of metadata; 0 before the first one
	at := 0
	for line := range strings.Lines(text) {
		at += len(line)
		field, value, ok := strings.Cut(strings.TrimRight(line, " \t\r\n"), ":")
		nested := strings.TrimLeft(field, " ")
		depth := len(field) - len(nested)
		field = unquoted(field)
		if ok && depth > 0 {
			if indent == 0 {
				indent = depth
			}
			switch {
			case depth != indent: // for example a member of labels
			case inMetadata && field == "name" && name == "":
				name = unquoted(value)
			case inMetadata && field == "namespace" && namespace == "":
				namespace = unquoted(value)
			}
			continue
		}
		if depth == 0 {
			inMetadata, indent = field == "metadata", 0
		}
		switch value = strings.TrimSpace(value); {
		case field == "kind":
			kind = likelier(kind, unquoted(value))
		case field == "metadata" && strings.HasPrefix(value, "{"):
			name, namespace = flowNames(text[at-len(line)+strings.IndexByte(line, '{'):])
		}
	}
	return kind, name, namespace
}

// likelier returns the kind that an error names if an object has two kinds: second if
// only second may hold Secrets, and first otherwise.
func likelier(first, second string) string {
	if first == "" || !mayHoldSecrets(first) && mayHoldSecrets(second) {
		return second
	}
	return first
}

// flowNames returns the names in metadata that is written in braces.
func flowNames(text string) (name, namespace string) {
	if !strings.HasPrefix(text, "{") {
		return "", ""
	}
	members, _ := flowParts(text)
	for _, f := range members {
		switch f.name {
		case "name":
			name = unquoted(f.value)
		case "namespace":
			namespace = unquoted(f.value)
		}
	}
	return name, namespace
}

// plainKind returns a kind for an error; "" if it does not look like a kind.
func plainKind(kind string) string {
	if keys.IsPlain(kind) {
		return strings.ToLower(kind)
	}
	return ""
}

// fieldsOfObjects yields the names and values of all fields kind, name and namespace in a
// text of any form.
func fieldsOfObjects(text string) iter.Seq2[string, string] {
	const (
		longest      = len("namespace") + len(`""`) + 8
		longestValue = 300 // no name is longer
	)
	return func(yield func(string, string) bool) {
		for at := 0; ; at++ {
			i := strings.IndexByte(text[at:], ':')
			if i < 0 {
				return
			}
			at += i
			name := strings.TrimRight(text[max(0, at-longest):at], " \t\"'")
			name = name[strings.LastIndexFunc(name, func(r rune) bool { return !keys.IsAlnumRune(r) })+1:]
			if name != "kind" && name != "name" && name != "namespace" {
				continue
			}
			value := strings.TrimLeft(text[at+1:min(len(text), at+1+longestValue)], " \t\"'")
			if end := strings.IndexAny(value, " \t\r\n\"',{}[]#"); end >= 0 {
				value = value[:end]
			}
			if value != "" && !yield(name, value) {
				return
			}
		}
	}
}

// secretNames returns the names of the Secrets that a text of any form seems to hold.
// Each has the form secret "namespace/name".
func secretNames(text string) (names []string) {
	var name, namespace string
	inSecret := false
	finish := func() {
		if inSecret && name != "" {
			full := "a secret whose name is not a DNS name"
			if !keys.IsObjectName(namespace) {
				namespace = ""
			}
			if keys.IsObjectName(name) {
				full = "secret " + quote(keys.JoinName(namespace, name))
			}
			if !slices.Contains(names[max(0, len(names)-maxListed):], full) {
				names = append(names, full)
			}
		}
		name, namespace = "", ""
	}
	for field, value := range fieldsOfObjects(text) {
		switch {
		case field == "kind":
			finish()
			inSecret = resembles(value, "Secret")
		case field == "name" && name == "":
			name = value
		case field == "namespace" && namespace == "":
			namespace = value
		}
	}
	finish()
	return names
}
