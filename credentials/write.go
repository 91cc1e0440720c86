package credentials

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/pullkit/pullkit/credentials/internal/keys"
)

// hubServer is the key that docker and kubectl write for Docker Hub.
const hubServer = "https://index.docker.io/v1/"

// A DockerConfig is one login, with the values that the command kubectl create secret
// docker-registry takes.
type DockerConfig struct {
	Server   string // the key of the login; "" means Docker Hub
	Username string
	Password Sensitive
	Email    string // "" means that the document has no email; registries do not need one
}

// JSON returns the document that kubectl create secret docker-registry writes under
// .dockerconfigjson. The error says that the user name or the password is empty, that the
// user name has a colon, or that the server is malformed, as an [*Error]. A colon is
// refused because the password would begin there for a reader of the document.
func (c DockerConfig) JSON() ([]byte, error) {
	if c.Server == "" {
		c.Server = hubServer
	}
	if _, err := keys.Compile(keys.Normalize(c.Server)); err != nil {
		return nil, &Error{Origin: Origin{Key: keys.Redact(c.Server)}, Err: err}
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

// A Lister is a Keyring that can list all of its credentials. Its method is optional:
// keyrings of helpers and plugins do not have it.
type Lister interface {
	// All yields the credentials in the order in which they would be tried. The Key of
	// their Origin is the key that they are for.
	All() iter.Seq[Credential]
}

// All yields the credentials of all entries, those of the variable of [ReadDocker] first.
func (f *File) All() iter.Seq[Credential] {
	f = orZero(f)
	if f.variable != nil {
		return inTurn(f.variable.table.all(), f.table.all())
	}
	return f.table.all()
}

func (s *pullSecrets) All() iter.Seq[Credential] { return s.table.all() }

func (t *table) all() iter.Seq[Credential] {
	return func(yield func(Credential) bool) {
		for i := range t.entries {
			if !yield(t.entries[i].cred) {
				return
			}
		}
	}
}

// MarshalConfig returns the credentials of a keyring as the text of one config.json, for
// tools that need a file. The caller should write the file with mode 0600.
//
// A config.json holds one credential for each key. MarshalConfig takes the first one in
// the order of the keyring, and returns the origins of all others in dropped. It does not
// ask helpers and plugins, and also returns their origins in dropped. A config.json
// cannot hold the order of joined keyrings, such as a Pod's secrets before the node's
// file: tools that read it try the more specific key first.
//
// Each keyring that is joined in ring must be a [Lister], or one of [NewHelper], [ReadProviders]
// or [ParseProviders]. The error says which type of keyring is not one of these.
func MarshalConfig(ring Keyring) (data []byte, dropped []Origin, err error) {
	var auths authsObject
	seen := map[string]Credential{}
	for _, ring := range flatten(ring) {
		if origins, ok := programsOf(ring); ok {
			dropped = append(dropped, origins...)
			continue
		}
		list, ok := ring.(Lister)
		if !ok {
			return nil, nil, fmt.Errorf("a keyring of type %T cannot be listed", ring)
		}
		for c := range list.All() {
			if c.Anonymous() {
				continue
			}
			text := keys.Normalize(c.Origin.Key)
			// The key is one that only the kubelet reads, or a part of it is hidden.
			if _, err := keys.Compile(text); err != nil || strings.Contains(text, keys.Hidden) {
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

// programsOf returns the origins of the programs that ring asks. It returns false if ring
// is not a keyring of a helper or of plugins.
func programsOf(ring Keyring) ([]Origin, bool) {
	switch ring := ring.(type) {
	case *helper:
		return []Origin{ring.origin()}, true
	case providersFor:
		return programsOf(ring.ps)
	case *providers:
		var origins []Origin
		for _, p := range ring.list {
			origins = append(origins, p.origin())
		}
		return origins, true
	}
	return nil, false
}

// The types of a config.json that is to be encoded. They hold secrets as plain text, so
// that values of them are encoded at once, and not kept.
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
