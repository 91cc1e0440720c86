package credentials

import (
	"time"
	"unique"

	"github.com/pullkit/pullkit/credentials/internal/keys"
)

// A Credential is what one attempt to pull an image authenticates with. It is
// comparable, and printing it does not show a secret. The zero Credential is anonymous.
type Credential struct {
	Username string
	Password Sensitive
	// IdentityToken is an OAuth2 refresh token. A client exchanges it for a registry
	// token, and never sends it to the registry itself.
	IdentityToken Sensitive
	// RegistryToken is a bearer token that is sent to the registry as it is.
	RegistryToken Sensitive
	// Email is what an entry of a file or of a Secret has as email. No registry needs it. The
	// kubelet's hash of a credential includes it. Same ignores it.
	Email string
	// Origin says where the credential was found. Same ignores it.
	Origin Origin
	// Expires is the time at which the credential expires, as its source says; the zero
	// time if the source does not say it. Same ignores it.
	Expires time.Time
}

// Same reports whether c and d authenticate in the same way: whether all of their fields
// except Email, Origin and Expires are equal.
func (c Credential) Same(d Credential) bool { return c.bare() == d.bare() }

// Anonymous reports whether c has nothing to authenticate with: whether it is the Same as
// the zero Credential.
func (c Credential) Anonymous() bool { return c.Same(Credential{}) }

// bare returns c without Email, Origin and Expires.
func (c Credential) bare() Credential {
	c.Email, c.Origin, c.Expires = "", Origin{}, time.Time{}
	return c
}

// Sensitive holds a secret. Packages such as fmt, log/slog and encoding/json cannot print
// the secret, even if the Sensitive is a field of another value, because they reach only
// an opaque handle. Sensitive is comparable: two Sensitive values are equal if their
// secrets are. The zero Sensitive holds the empty secret.
//
// A secret is interned as long as a Sensitive with its value exists.
type Sensitive struct{ h unique.Handle[string] }

// Conceal returns a Sensitive that holds the secret s. Conceal("") is the zero Sensitive.
func Conceal(s string) Sensitive {
	if s == "" {
		return Sensitive{}
	}
	return Sensitive{unique.Make(s)}
}

// Reveal returns the secret that s holds; "" for the zero Sensitive.
func (s Sensitive) Reveal() string {
	if s == (Sensitive{}) {
		return ""
	}
	return s.h.Value()
}

// IsZero reports whether s holds the empty secret.
func (s Sensitive) IsZero() bool { return s == Sensitive{} }

// A Kind is the kind of source that a credential comes from.
type Kind string

// The kinds of sources.
const (
	KindFile   Kind = "file"   // a config.json, .dockercfg or auth.json file
	KindSecret Kind = "secret" // an imagePullSecret
	KindHelper Kind = "helper" // a docker-credential-* program
	KindPlugin Kind = "plugin" // an exec credential provider plugin
	KindStatic Kind = "static" // a value in the program that uses this package: Static, Login

	KindVariable Kind = "variable" // an environment variable
)

// An Origin says where a credential was found. It does not hold a secret, and is
// comparable. The zero Origin is that of a credential without a source, such as the
// anonymous one.
type Origin struct {
	Kind Kind `json:"kind,omitempty"`
	// Namespace is the namespace of a Secret; "" for all other kinds.
	Namespace string `json:"namespace,omitempty"`
	// Name is the name of a Secret, of a helper, of a plugin or of an environment
	// variable; for a file, it is the path.
	Name string `json:"name,omitempty"`
	// UID is the UID of a Secret; "" for all other kinds.
	UID string `json:"uid,omitempty"`
	// Key is the key of the entry, as the source writes it. The parts that may be secrets
	// are hidden.
	Key string `json:"key,omitempty"`
	// ServiceAccount is the service account whose token the plugin received; zero if the
	// plugin received none, and for all other kinds.
	ServiceAccount ServiceAccount `json:"serviceAccount,omitzero"`
}

// A ServiceAccount names the Kubernetes service account of a Pod.
type ServiceAccount struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

// String returns a text that says where the credential was found, such as
// `secret "web/regcred", key "quay.io/team"`. A later version may word it differently:
// a program must compare the fields instead.
func (o Origin) String() string {
	s := string(o.Kind)
	switch {
	case o.Kind == KindStatic:
		s = "a given credential"
	case o == Origin{}:
		return "no credential"
	case o.Kind == "":
		s = "source"
	}
	if name := keys.JoinName(o.Namespace, o.Name); name != "" {
		s += " " + quote(name)
	}
	if o.Key != "" {
		s += ", key " + quote(o.Key)
	}
	if name := keys.JoinName(o.ServiceAccount.Namespace, o.ServiceAccount.Name); name != "" {
		s += ", service account " + quote(name)
	}
	return s
}
