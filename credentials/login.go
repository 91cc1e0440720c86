package credentials

import (
	"errors"
	"fmt"
)

// Login returns a keyring with one login, for one registry or for a part of it. key
// is what a config.json file has under auths: registry.example, or
// registry.example/team for the repositories below team alone; docker.io is Docker
// Hub. The credential goes to no other registry, whatever image is asked for. See
// [Match] for all that a key may be.
//
// The error says that the key is malformed or matches no image, or that there is no
// user name or password. What looks wrong in the login is listed by the keyring's
// method Problems. The keyring is a [Fingerprinter], an [Explainer] and a [Lister];
// [Join] makes one of several.
func Login(key, username string, password Sensitive) (Keyring, error) {
	switch {
	case username == "":
		return nil, errors.New("a login needs a user name")
	case password.IsZero():
		return nil, errors.New("a login needs a password")
	}
	c := Credential{Username: username, Password: password, Origin: Origin{Kind: KindStatic, Key: key}}
	l := login{username: username, password: password.Reveal()}
	es := entries{}
	es.add(c, l.advice(c)...)
	for _, p := range es.problems {
		if len(es.list) == 0 || errors.Is(p.Err, ErrKeyMatchesNothing) {
			return nil, fmt.Errorf("login for %s: %w", quote(redactKey(key)), p.Err)
		}
	}
	return &Config{table: newTable(Rules{}, es.list), problems: es.problems}, nil
}
