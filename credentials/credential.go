package credentials

import (
	"time"
	"unique"
)

// A Credential is what one try of a pull authenticates with. It is comparable,
// and printing it shows no secret. The zero Credential is anonymous.
type Credential struct {
	Username string
	Password Sensitive
	// IdentityToken is an OAuth2 refresh token: it is exchanged for a registry
	// token and never sent to the registry itself.
	IdentityToken Sensitive
	// RegistryToken is a bearer token that is sent to the registry as it is.
	RegistryToken Sensitive
	// Origin says where the credential was found. It takes no part in Same.
	Origin Origin
	// Expires is when the source says the credential ends; zero if it did not say.
	Expires time.Time
}

// Same reports whether c and d authenticate alike: they are equal, Origin and
// Expires aside.
func (c Credential) Same(d Credential) bool { return c.bare() == d.bare() }

// Anonymous reports whether c carries nothing to authenticate with.
func (c Credential) Anonymous() bool { return c.Same(Credential{}) }

// bare is c with only what it authenticates with.
func (c Credential) bare() Credential {
	c.Origin, c.Expires = Origin{}, time.Time{}
	return c
}

// Sensitive holds a secret that no verb of fmt, no wrapper, no logger and no
// encoder prints: all any of them can reach is an opaque handle. It is
// comparable; two Sensitive values are equal when their secrets are. The zero
// Sensitive holds the empty secret.
//
// Secrets are interned for as long as a Sensitive with their value exists.
type Sensitive struct{ h unique.Handle[string] }

// Conceal wraps a secret. Conceal("") is the zero Sensitive.
func Conceal(s string) Sensitive {
	if s == "" {
		return Sensitive{}
	}
	return Sensitive{unique.Make(s)}
}

// Reveal returns the secret; "" for the zero Sensitive.
func (s Sensitive) Reveal() string {
	if s == (Sensitive{}) {
		return ""
	}
	return s.h.Value()
}

// IsZero reports whether the secret is empty.
func (s Sensitive) IsZero() bool { return s == Sensitive{} }

// A Kind says what sort of source a credential came from.
type Kind string

// The kinds of sources.
const (
	KindFile   Kind = "file"   // a config.json, .dockercfg or auth.json file
	KindSecret Kind = "secret" // an imagePullSecret
	KindHelper Kind = "helper" // a docker-credential-* program
	KindPlugin Kind = "plugin" // an exec credential provider plugin
	KindStatic Kind = "static" // given by the program

	KindVariable Kind = "variable" // a variable of the environment
)

// An Origin says where a credential was found. It holds no secret and is
// comparable. The zero Origin belongs to a credential without a label, the
// anonymous one for example.
type Origin struct {
	Kind Kind `json:"kind,omitempty"`
	// Namespace, Name and UID are those of the Secret; for a file Name is its
	// path, for a helper or plugin the name of the program, for a variable its name.
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
	// Key is the key that matched, as the source writes it.
	Key string `json:"key,omitempty"`
	// ServiceAccount is the one whose token a plugin was given; zero otherwise.
	ServiceAccount ServiceAccount `json:"serviceAccount,omitzero"`
}

// A ServiceAccount names the Kubernetes service account of a Pod.
type ServiceAccount struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

// String says where the credential was found, for a person to read:
// `secret "web/regcred", key "quay.io/team"`. The text may change; compare the
// fields instead.
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
	if name := joinName(o.Namespace, o.Name); name != "" {
		s += " " + quote(name)
	}
	if o.Key != "" {
		s += ", key " + quote(o.Key)
	}
	if name := joinName(o.ServiceAccount.Namespace, o.ServiceAccount.Name); name != "" {
		s += ", service account " + quote(name)
	}
	return s
}

func joinName(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}
