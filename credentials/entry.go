package credentials

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/pullkit/pullkit/internal/strictjson"
)

// entries collects the entries of one or more sources.
type entries struct {
	rules    Rules
	list     []entry
	problems problemList
}

// problem notes what was left out of origin, or a warning about it.
func (es *entries) problem(origin Origin, err error) {
	es.note(problem{EntryError: &EntryError{origin, err}})
}

func (es *entries) note(p problem) {
	p.Origin.Key = redactKey(p.Origin.Key)
	es.problems = append(es.problems, p)
}

// aboutEntry notes a problem that concerns the images of the origin's key alone,
// where that can be read.
func (es *entries) aboutEntry(origin Origin, err error) {
	p := problem{EntryError: &EntryError{origin, err}}
	if text, err := es.rules.normalize(origin.Key); err == nil {
		if k, err := es.rules.compile(text); err == nil {
			p.about = []pattern{k}
		}
	}
	es.note(p)
}

// addAuths adds the entries of an auths object. A key written twice counts once,
// with its last value, at its first place. It returns the entries without any
// credential: markers, as docker writes for a login that a helper keeps. around are
// the names of the fields that the object is in.
func (es *entries) addAuths(origin Origin, auths []member, around ...string) (markers []member) {
	for _, m := range lastOfEach(auths) {
		origin.Key = m.Key
		c, advice, err := es.readEntry(m)
		if (err != nil || c.Anonymous()) && es.warnWrapped(origin, m, err, around) && (err != nil || !es.rules.Kubelet) {
			continue
		}
		if err != nil {
			es.aboutEntry(origin, err)
			continue
		}
		if c.Anonymous() && !es.rules.Kubelet {
			markers = append(markers, m)
			continue
		}
		c.Origin = origin
		es.add(c, advice...)
	}
	return markers
}

// warnWrapped notes that what is in place of an entry is a whole document, or the
// entries of one, and reports whether it is. err is why the entry cannot be read, if
// it cannot. All images are concerned, because the entries inside are not read.
func (es *entries) warnWrapped(origin Origin, m member, err error, around []string) bool {
	if len(around) == 0 && isLegacyAuths(m) {
		return true // said of the document
	}
	w, ok := entryWrapping(m, around...)
	if !ok || fieldsWrapping(m) != "" || entryHint(m) != "" && strictjson.KindOf(m.Value) == strictjson.KindArray {
		return false
	}
	origin.Key = ""
	hint := w.hint(len(around) == 0)
	if err != nil {
		es.problem(origin, fmt.Errorf("key %s: entry is %s, not an object: %s", quote(redactKey(m.Key)), article(strictjson.KindOf(m.Value)), hint))
	} else {
		es.problem(origin, warning(ErrGivesNothing, hint))
	}
	return true
}

// add adds a credential under the key of its Origin, with warnings about it.
func (es *entries) add(c Credential, advice ...error) {
	e := entry{cred: c}
	var err error
	if e.text, err = es.rules.normalize(c.Origin.Key); err == nil {
		e.pattern, err = es.rules.compile(e.text)
		if es.rules.Kubelet {
			e.err, err = err, nil // it keeps such a key, and the key never matches
		}
	}
	if err != nil {
		es.problem(c.Origin, keyError(c.Origin.Key, err))
		return
	}
	if e.err == nil {
		e.warn(es, c.Origin, advice)
	}
	e.cred.Origin.Key = redactKey(c.Origin.Key) // only the kubelet takes keys with user info
	es.list = append(es.list, e)
}

// warn notes the warnings about an entry: those about its login, and one about its key.
func (e *entry) warn(es *entries, origin Origin, advice []error) {
	for _, err := range advice {
		e.warnings = append(e.warnings, problem{EntryError: &EntryError{origin, err}, about: []pattern{e.pattern}, withEntry: true})
	}
	if found, meant := keyAdvice(origin.Key, e.pattern); found != "" {
		p := problem{EntryError: &EntryError{origin, warning(ErrKeyMatchesNothing, found)}, withEntry: true}
		for _, key := range meant {
			if k, err := compileKey(key); err == nil {
				p.about = append(p.about, k)
			}
		}
		e.warnings = append(e.warnings, p)
	}
	for _, p := range e.warnings {
		es.note(p)
	}
}

func lastOfEach(members []member) []member {
	place := make(map[string]int, len(members))
	out := members[:0:0]
	for _, m := range members {
		if i, ok := place[m.Key]; ok {
			out[i].Value = m.Value
			continue
		}
		place[m.Key] = len(out)
		out = append(out, m)
	}
	return out
}

// A login holds the fields of one entry as the text has them.
type login struct {
	username, password, auth, identity, registry, email string
}

// fields maps the names of the fields that the rules read to their places.
func (l *login) fields(rules Rules) map[string]*string {
	if rules.Kubelet {
		return map[string]*string{"username": &l.username, "password": &l.password, "auth": &l.auth, "email": &l.email}
	}
	return map[string]*string{
		"username": &l.username, "password": &l.password, "auth": &l.auth,
		"identitytoken": &l.identity, "registrytoken": &l.registry,
	}
}

// readEntry reads one entry of an auths object. advice are warnings about it.
func (es *entries) readEntry(m member) (c Credential, advice []error, err error) {
	members, err := readObject(m.Value)
	if err != nil {
		return c, nil, fmt.Errorf("entry %w%s", err, entryHint(m))
	}
	var l login
	fields := l.fields(es.rules)
	for _, m := range members {
		name := strings.ToLower(m.Key)
		field, ok := fields[name]
		if !ok {
			continue
		}
		s, isNull, err := readString(m.Value)
		if err != nil {
			return c, nil, fmt.Errorf("%s %w", name, err)
		}
		if !isNull {
			*field = s
		}
	}
	c.Username = l.username
	password := l.password
	if l.auth != "" {
		if c.Username, password, err = decodeAuth(l.auth); err != nil {
			return Credential{}, nil, fmt.Errorf("auth %w%s", err, authHint(l.auth))
		}
		if !es.rules.Kubelet {
			password = strings.TrimRight(password, "\x00") // padding of old docker versions
		}
	}
	for _, token := range []string{l.identity, l.registry} {
		if strings.ContainsFunc(token, isControl) {
			return Credential{}, nil, errors.New("token holds a control character")
		}
	}
	c.Password, c.IdentityToken, c.RegistryToken = Conceal(password), Conceal(l.identity), Conceal(l.registry)
	return c, l.advice(c), nil
}

var errNoColon = errors.New("holds no colon between user name and password")

// decodeAuth reads base64 of user:password, padded or not. Line ends may stand
// anywhere in it, other space nowhere.
func decodeAuth(auth string) (username, password string, err error) {
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(strings.TrimRight(auth, "\r\n"), "=") {
		encoding = base64.StdEncoding
	}
	decoded, err := encoding.DecodeString(auth)
	if err != nil {
		return "", "", errors.New("is not base64")
	}
	username, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return "", "", errNoColon
	}
	return username, password, nil
}
