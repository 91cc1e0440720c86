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
)

// An Origin says where a credential was found. It holds no secret and is
// comparable. The zero Origin belongs to a credential nobody labelled, the
// anonymous one for example.
type Origin struct {
	Kind Kind
	// Namespace, Name and UID are those of the Secret; for a file Name is its
	// path, for a helper or plugin the name of the program.
	Namespace, Name, UID string
	// Key is the key that matched, as the source writes it.
	Key string
	// ServiceAccount is the one whose token a plugin was given; zero otherwise.
	ServiceAccount ServiceAccount
}

// A ServiceAccount names the Kubernetes service account of a Pod.
type ServiceAccount struct{ Namespace, Name, UID string }
