package credentials

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// An EntryError says that one entry of a source was left out, and why; or, if it
// wraps a [Warning], what should be known of one that was not. It never holds the
// entry's content.
type EntryError struct {
	Origin Origin // of the entry; without a Key if all of the source was left out
	Err    error
}

// Error says which entry, and what is the matter with it.
func (e *EntryError) Error() string { return fmt.Sprintf("%v: %v", e.Origin, e.Err) }

// Unwrap returns the reason.
func (e *EntryError) Unwrap() error { return e.Err }

// A Warning is what should be known of a source that is used all the same: unlike
// the other problems it costs no entry.
type Warning string

// Error returns the warning itself.
func (w Warning) Error() string { return string(w) }

// The warnings.
const (
	// ErrReadableByOthers is said of a file by [ReadConfig], but not on Windows.
	ErrReadableByOthers Warning = "can be read by other users: chmod 600 keeps its credentials private"
	// ErrSpelledTwice is said of a document whose auths objects add up here.
	ErrSpelledTwice Warning = "auths stands in it twice, spelled with other letters: other readers take only one of the two"
)

// entries collects the entries of one or more sources.
type entries struct {
	rules    Rules
	list     []entry
	problems []error
}

// problem notes what was left out of origin.
func (es *entries) problem(origin Origin, err error) {
	origin.Key = redactKey(origin.Key)
	es.problems = append(es.problems, &EntryError{Origin: origin, Err: err})
}

// addAuths adds the entries of an auths object. A key written twice counts once,
// with its last value, at its first place.
func (es *entries) addAuths(origin Origin, auths []member) {
	for _, m := range lastOfEach(auths) {
		origin.Key = m.name
		c, err := es.readEntry(m.value)
		if err != nil {
			es.problem(origin, err)
			continue
		}
		if c.Anonymous() && !es.rules.Kubelet {
			continue // a marker, as docker writes for a login kept in a helper
		}
		c.Origin = origin
		es.add(c)
	}
}

// add adds a credential under the key of its Origin.
func (es *entries) add(c Credential) {
	e := entry{cred: c}
	var err error
	if e.text, err = es.rules.normalize(c.Origin.Key); err == nil {
		e.pattern, err = es.rules.compile(e.text)
		if es.rules.Kubelet {
			e.err, err = err, nil // it keeps such a key, and the key never matches
		}
	}
	if err != nil {
		es.problem(c.Origin, err)
		return
	}
	e.cred.Origin.Key = redactKey(c.Origin.Key) // only the kubelet takes keys with user info
	es.list = append(es.list, e)
}

func lastOfEach(members []member) []member {
	place := make(map[string]int, len(members))
	out := members[:0:0]
	for _, m := range members {
		if i, ok := place[m.name]; ok {
			out[i].value = m.value
			continue
		}
		place[m.name] = len(out)
		out = append(out, m)
	}
	return out
}

// readEntry reads one value of an auths object.
func (es *entries) readEntry(data []byte) (Credential, error) {
	var c Credential
	members, err := readObject(data)
	if err != nil {
		return c, fmt.Errorf("entry %w", err)
	}
	var auth, password, identity, registry string
	fields := map[string]*string{
		"username": &c.Username, "password": &password, "auth": &auth,
		"identitytoken": &identity, "registrytoken": &registry,
	}
	if es.rules.Kubelet {
		var email string
		fields = map[string]*string{"username": &c.Username, "password": &password, "auth": &auth, "email": &email}
	}
	for _, m := range members {
		name := strings.ToLower(m.name)
		field, ok := fields[name]
		if !ok {
			continue
		}
		s, isNull, err := readString(m.value)
		if err != nil {
			return Credential{}, fmt.Errorf("%s %w", name, err)
		}
		if !isNull {
			*field = s
		}
	}
	if auth != "" {
		if c.Username, password, err = decodeAuth(auth); err != nil {
			return Credential{}, fmt.Errorf("auth %w", err)
		}
		if !es.rules.Kubelet {
			password = strings.TrimRight(password, "\x00") // padding of old docker versions
		}
	}
	for _, token := range []string{identity, registry} {
		if strings.ContainsFunc(token, isControl) {
			return Credential{}, errors.New("token holds a control character")
		}
	}
	c.Password, c.IdentityToken, c.RegistryToken = Conceal(password), Conceal(identity), Conceal(registry)
	return c, nil
}

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
		return "", "", errors.New("holds no colon between user name and password")
	}
	return username, password, nil
}
