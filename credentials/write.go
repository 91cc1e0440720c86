package credentials

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
)

const (
	// hubServer is how docker and kubectl write Docker Hub as a key.
	hubServer = "https://index.docker.io/v1/"
	// hubName is Docker Hub's name in an image's name, and Podman's key for it.
	hubName = "docker.io"
)

// A DockerConfig is one login as kubectl create secret docker-registry takes it.
type DockerConfig struct {
	Server   string // the key of the login; "" means Docker Hub
	Username string
	Password Sensitive
	Email    string // "" means none; no registry asks for it
}

// JSON returns the document that kubectl create secret docker-registry puts under
// .dockerconfigjson. A user name with a colon is refused, because a reader would cut it
// there.
func (c DockerConfig) JSON() ([]byte, error) {
	if c.Server == "" {
		c.Server = hubServer
	}
	if _, err := compileKey(normalize(c.Server)); err != nil {
		return nil, &KeyError{Key: redactKey(c.Server), Err: err}
	}
	password := c.Password.Reveal()
	switch {
	case c.Username == "" || password == "":
		return nil, errors.New("a pull secret needs a user name and a password")
	case strings.Contains(c.Username, ":"):
		return nil, errors.New("the user name has a colon")
	}
	return json.Marshal(configDocument{Auths: authsObject{{c.Server, authEntry{
		Username: c.Username, Password: password, Email: c.Email, Auth: encodeAuth(c.Username, password),
	}}}})
}

// A Lister is a Keyring that can name all its credentials, each with the key it
// is for in its Origin. Optional: helpers and plugins cannot.
type Lister interface {
	// All yields the credentials in the order in which they would be tried.
	All() iter.Seq[Credential]
}

// All yields the credentials of all entries.
func (f *File) All() iter.Seq[Credential] {
	f = orZero(f)
	if f.variable != nil {
		return inTurn(f.variable.table.all(), f.table.all())
	}
	return f.table.all()
}

// All yields the credentials of all entries.
func (s *Secrets) All() iter.Seq[Credential] { return orZero(s).table.all() }

func (t *table) all() iter.Seq[Credential] {
	return func(yield func(Credential) bool) {
		for i := range t.entries {
			if !yield(t.entries[i].cred) {
				return
			}
		}
	}
}

// MarshalConfig writes a keyring as one config.json, for tools that want a file;
// write it with mode 0600. Such a file holds one credential for each key: the
// first in the keyring's order is taken, and dropped says which were not. It also
// cannot say that a Pod's secrets come before the node's file: in it the more
// special key wins. Helpers and plugins are not asked, and listed in dropped.
//
// Each keyring that is joined in ring must be a [Lister], a [*Helper] or
// [*Providers]; the error says which is not one of these.
func MarshalConfig(ring Keyring) (data []byte, dropped []Origin, err error) {
	var auths authsObject
	seen := map[string]Credential{}
	for _, ring := range flatten(ring) {
		list, ok := ring.(Lister)
		if !ok {
			programs, ok := ring.(interface{ programs() []Origin })
			if !ok {
				return nil, nil, fmt.Errorf("a keyring of type %T cannot be listed", ring)
			}
			dropped = append(dropped, programs.programs()...)
			continue
		}
		for c := range list.All() {
			if c.Anonymous() {
				continue
			}
			text := normalize(c.Origin.Key)
			// A key that only the kubelet takes, or of which a part is hidden.
			if _, err := compileKey(text); err != nil || strings.Contains(text, hidden) {
				dropped = append(dropped, c.Origin)
				continue
			}
			if first, ok := seen[text]; ok {
				if !first.Same(c) {
					dropped = append(dropped, c.Origin)
				}
				continue
			}
			seen[text] = c
			auths = append(auths, namedEntry{c.Origin.Key, newAuthEntry(c)})
		}
	}
	data, err = json.MarshalIndent(configDocument{Auths: auths}, "", "\t")
	return data, dropped, err
}

// flatten returns the keyrings that are joined in ring.
func flatten(ring Keyring) []Keyring {
	switch ring := ring.(type) {
	case nil:
		return nil
	case *helped:
		return ring.parts()
	case joined:
		return ring.flat()
	case joinedPrints:
		return ring.flat()
	}
	return []Keyring{ring}
}

func (j joined) flat() []Keyring {
	var rings []Keyring
	for _, ring := range j.rings {
		rings = append(rings, flatten(ring)...)
	}
	return rings
}

// programs name what cannot be listed.
func (h *Helper) programs() []Origin { return []Origin{h.origin()} }

func (ps *Providers) programs() []Origin {
	var out []Origin
	for _, p := range orZero(ps).list {
		out = append(out, p.origin())
	}
	return out
}

func (pf providersFor) programs() []Origin { return pf.ps.programs() }

// These types exist to be encoded at once; no value of them is kept.
type (
	configDocument struct {
		Auths authsObject `json:"auths"`
	}
	authEntry struct {
		Username      string `json:"username,omitempty"`
		Password      string `json:"password,omitempty"`
		Email         string `json:"email,omitempty"`
		Auth          string `json:"auth,omitempty"`
		IdentityToken string `json:"identitytoken,omitempty"`
		RegistryToken string `json:"registrytoken,omitempty"`
	}
	namedEntry struct {
		key   string
		entry authEntry
	}
	authsObject []namedEntry
)

// MarshalJSON writes an object that keeps the order of the entries.
func (a authsObject) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, e := range a {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(e.key)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(e.entry)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func newAuthEntry(c Credential) authEntry {
	e := authEntry{IdentityToken: c.IdentityToken.Reveal(), RegistryToken: c.RegistryToken.Reveal()}
	password := c.Password.Reveal()
	switch {
	case c.Username == "" && password == "":
	case strings.Contains(c.Username, ":"):
		e.Username, e.Password = c.Username, password
	default:
		e.Auth = encodeAuth(c.Username, password)
	}
	return e
}

func encodeAuth(username, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
}
