package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// A Secret has what is known of a Secret that gives no credential, or that has data which
// is not read.
type Secret struct {
	Type  string
	Key   string   // the name of the data in which a Secret of this type has its document; "" if Type is not that of a pull secret
	Empty bool     // the data of Key is there, and is empty
	Names []string // the names of all data that is not empty, sorted
	// Value returns the data of a name; "" for data that is not base64.
	Value func(name string) string
	// Misplaced is the hint of the function Misplaced about the Secret's manifest.
	Misplaced string
}

// NoDocument says why a Secret has no document.
func (s Secret) NoDocument() string {
	var there []string // the names of pull secrets' documents
	for _, name := range s.Names {
		if name == keyConfigJSON || name == keyDockercfg {
			there = append(there, name)
		}
	}
	switch {
	case s.Key == "":
		return s.wrongType(there)
	case len(there) > 0:
		return fmt.Sprintf("data[%s] belongs to a Secret of another type; this one is of type %s, which has its document under %s", there[0], s.Type, s.Key)
	case s.Misplaced != "":
		return s.Misplaced
	}
	for _, name := range s.Names {
		if name != s.Key && isDocumentName(name) {
			return fmt.Sprintf("it has data[%s], which must be called %s", quote(keys.Redact(name)), quote(s.Key))
		}
	}
	if s.Empty {
		return fmt.Sprintf("data[%s] is empty", s.Key)
	}
	for _, name := range s.Names {
		if s.holdsDocument(name) {
			return fmt.Sprintf("it has no data[%s]; data[%s] holds a document, and must have that name", s.Key, keys.QuoteDataName(name))
		}
	}
	if len(s.Names) == 0 {
		return "it has no data"
	}
	return fmt.Sprintf("it has no data[%s]", s.Key)
}

// Unread returns hints about data that holds further documents, which are not read.
func (s Secret) Unread() (hints []string) {
	for _, name := range s.Names {
		if name != s.Key && s.holdsDocument(name) {
			hints = append(hints, fmt.Sprintf("data[%s] holds another document, which is not read: a Secret of type %s has one, under %s", keys.QuoteDataName(name), s.Type, s.Key))
		}
	}
	return hints
}

// holdsDocument reports whether the data of a name holds a credential document, or the name
// is one that such data has.
func (s Secret) holdsDocument(name string) bool {
	if name == keyConfigJSON || name == keyDockercfg || isDocumentName(name) {
		return true
	}
	document := jsonWithin(s.Value(name))
	return document != nil && hasDocument(document)
}

// wrongType says that the Secret's type is not that of a pull secret. there has those
// names of pull secrets' documents that the Secret has.
func (s Secret) wrongType(there []string) string {
	text := "it is of type " + quote(s.Type)
	if s.Type == "" {
		text = "it has no type"
	}
	right := typeConfigJSON
	if slices.Equal(there, []string{keyDockercfg}) {
		right = typeDockercfg
	}
	return text + ", and only Secrets of the types " + typeConfigJSON + " and " + typeDockercfg +
		" are read: create it again as " + right + ", because the type of a Secret cannot be changed"
}

// Misplaced says where a manifest of a Secret has a document that must be under data or
// stringData. members are the fields of the Secret.
func Misplaced(members []strictjson.Member) string {
	for _, f := range members {
		if name := strings.TrimSpace(f.Key); f.Key != "data" && f.Key != "stringData" && (strings.EqualFold(name, "data") || strings.EqualFold(name, "stringData")) {
			return fmt.Sprintf("it has a field %s, which must be written data, or stringData", quote(f.Key))
		}
	}
	effort := 0
	var find func(members []member, around []string) []string
	find = func(members []member, around []string) []string {
		for _, f := range members {
			names := append(slices.Clip(around), keys.QuoteName(f.Key))
			if f.Key == keyConfigJSON || f.Key == keyDockercfg {
				return names
			}
			if effort += len(f.Value); effort > maxWrapped || len(names) > maxWrapping || strictjson.KindOf(f.Value) != strictjson.KindObject {
				continue
			}
			if inner, err := strictjson.Members(f.Value); err == nil && !(len(around) == 0 && (f.Key == "data" || f.Key == "stringData")) {
				if found := find(inner, names); found != nil {
					return found
				}
			}
		}
		return nil
	}
	names := find(members, nil)
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "it has " + names[0] + " outside of data: put it under data, or under stringData if it is not base64"
	}
	last := len(names) - 1
	return "it has " + names[last] + " " + wrapping{names: names[:last]}.where() + ": put it under data of the Secret itself, or under stringData if it is not base64"
}

// isDocumentName reports whether users give this name to the data of a credential
// document by mistake.
func isDocumentName(name string) bool {
	small := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(name))
	switch small {
	case "dockerconfigjson", "dockerconfig", "dockercfg", "dockercfgjson", "configjson", "dockerjson", "config", "auth", "authjson", "auths":
		return true
	}
	return false
}

// Data is for a value of a Secret's data that is not base64. It says what the value seems
// to be.
func Data(text string) string {
	switch trimmed := strings.TrimSpace(text); {
	case strings.HasPrefix(trimmed, "{") && strictjson.Valid([]byte(trimmed)):
		return "it is JSON that is not encoded: write it under stringData, or leave out the tag !!binary if it has one"
	case isPlaceholder(trimmed):
		return "it looks like a placeholder that was never filled in"
	}
	return base64Hint(text)
}
