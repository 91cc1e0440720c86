package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// An Entry is a member of the object of entries: the key of a registry, and the value that
// is written for it.
type Entry strictjson.Member

// NotAnObject says what an entry that is not an object seems to be.
func (e Entry) NotAnObject() string {
	if isLoginName(e.Key) {
		return "the host is missing: auths maps hosts to entries"
	}
	switch strictjson.KindOf(e.Value) {
	case strictjson.KindString:
		return `write {"auth": ...} around it`
	case strictjson.KindArray:
		if list, err := strictjson.Elements(e.Value); err == nil && slices.ContainsFunc(list, isEntry) {
			return "leave out the list around it"
		}
	}
	return ""
}

// A Misplacement says what is in place of an entry.
type Misplacement int

const (
	// NotMisplaced means that the value may be an entry.
	NotMisplaced Misplacement = iota
	// Wrapped means that the value is a whole document, or the entries of one.
	Wrapped
	// AuthsObject means that the value is the auths object of a config.json in a
	// .dockercfg. Fields returns the hint about it.
	AuthsObject
	// ConfigField means that the value is that of a field of config.json in a .dockercfg.
	ConfigField
)

// Misplaced says what is in place of an entry that has no login, or whose login cannot be
// read. legacy says that the entry is one of a .dockercfg, which has no object auths
// around its entries.
func (e Entry) Misplaced(legacy bool) (what Misplacement, hint string) {
	if legacy && isLegacyAuths(member(e)) {
		return AuthsObject, ""
	}
	w, ok := e.wrapping(legacy)
	switch {
	case !ok && legacy && isDockerField(e.Key):
		return ConfigField, "is a field of config.json, and a .dockercfg has only entries: leave it out, or make a config.json of the file"
	case !ok, fieldsWrapping(e) != "", e.NotAnObject() != "" && strictjson.KindOf(e.Value) == strictjson.KindArray:
		return NotMisplaced, ""
	}
	return Wrapped, w.hint(legacy)
}

// wrapping returns the place of the document, or of the entries, that is in place of an
// entry.
func (e Entry) wrapping(legacy bool) (wrapping, bool) {
	w := wrapping{names: []string{quote(keys.Redact(e.Key))}}
	if !legacy {
		w = wrapping{names: []string{quote("auths"), quote(keys.Redact(e.Key))}, inAuths: true}
	}
	return findWrapped(e.Value, w)
}

// fieldsWrapping returns a hint if the fields of an entry are one level too deep: in an
// object inside of it whose name is not a registry's.
func fieldsWrapping(e Entry) string {
	members, err := strictjson.Members(e.Value)
	if host, _ := keys.CutPath(keys.CutScheme(e.Key)); err != nil || !isRegistry(host) {
		return ""
	}
	for _, inner := range members {
		if isEntry(inner.Value) && keys.IsPlain(inner.Key) {
			return "the entry's fields are under " + keys.QuoteName(inner.Key) + ": leave out what is around them"
		}
	}
	return ""
}

// Within returns hints about other logins inside of an entry that has a login. A brace
// that is closed too late has this effect.
func (e Entry) Within() (hints []string) {
	members, err := strictjson.Members(e.Value)
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
		f.look(inner.Value, wrapping{names: []string{keys.QuoteName(inner.Key)}})
		if strings.EqualFold(inner.Key, "auths") && hasEntries(inner.Value) {
			f.found = []wrapping{{names: []string{keys.QuoteName(inner.Key)}}}
		}
		for _, w := range f.found {
			hints = append(hints, "other entries are within this one, "+w.where()+": close the brace of this entry before them")
		}
	}
	return hints
}

// Empty says which fields an entry without a credential has.
func (e Entry) Empty() string {
	if hint := fieldsWrapping(e); hint != "" {
		return hint
	}
	members, err := strictjson.Members(e.Value)
	if err != nil || len(members) == 0 {
		return "the entry is empty"
	}
	var names []string
	for _, m := range members {
		if keys.IsPlain(m.Key) && len(names) < 5 {
			names = append(names, m.Key)
		}
	}
	return fmt.Sprintf("the entry has none of username, password, auth, identitytoken and registrytoken with a value (it has %s)",
		cmp.Or(strings.Join(names, ", "), "other fields"))
}

// HasLogin reports whether an entry has a field of a login.
func (e Entry) HasLogin() bool { return isEntry(e.Value) }

// isEntry reports whether a value is an object that has a field of a login.
func isEntry(data []byte) bool {
	members, err := strictjson.Members(data)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(members, isLoginField)
}

// isLoginName reports whether a name is that of a field of a login.
func isLoginName(name string) bool {
	switch strings.ToLower(name) {
	case "username", "password", "auth", "identitytoken", "registrytoken":
		return true
	}
	return false
}

// isLoginField reports whether a member of an object is a field of a login, with a text.
func isLoginField(m member) bool {
	return isLoginName(m.Key) && strictjson.KindOf(m.Value) == strictjson.KindString
}

// text returns the text of a JSON string; "" for any other value.
func text(data []byte) string {
	s, _ := strictjson.String(data)
	return s
}
