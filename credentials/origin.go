package credentials

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
// comparable. The zero Origin belongs to a credential nobody labelled, the
// anonymous one for example.
type Origin struct {
	Kind Kind
	// Namespace, Name and UID are those of the Secret; for a file Name is its
	// path, for a helper or plugin the name of the program, for a variable its name.
	Namespace, Name, UID string
	// Key is the key that matched, as the source writes it.
	Key string
	// ServiceAccount is the one whose token a plugin was given; zero otherwise.
	ServiceAccount ServiceAccount
}

// A ServiceAccount names the Kubernetes service account of a Pod.
type ServiceAccount struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
}

// String says where the credential was found, for people:
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
