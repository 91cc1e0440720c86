package credentials

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"

	"github.com/pullkit/pullkit/reference"
)

// The types of Secrets that hold credentials for registries, and the key that
// each of them has its document under.
const (
	TypeDockerConfigJSON = "kubernetes.io/dockerconfigjson"
	TypeDockercfg        = "kubernetes.io/dockercfg"
	KeyDockerConfigJSON  = ".dockerconfigjson"
	KeyDockercfg         = ".dockercfg"
)

// A Secret is a Kubernetes Secret, with the fields of corev1.Secret that matter
// here:
//
//	credentials.Secret{
//		Namespace: s.Namespace, Name: s.Name, UID: string(s.UID),
//		Type: string(s.Type), Data: credentials.ConcealData(s.Data),
//	}
type Secret struct {
	Namespace, Name, UID string
	Type                 string
	Data                 map[string]Sensitive // decoded

	notBase64 []string // names that are not in Data, since their value in the manifest was not base64
}

// ConcealData wraps the Data of a corev1.Secret.
func ConcealData(data map[string][]byte) map[string]Sensitive {
	out := make(map[string]Sensitive, len(data))
	for key, value := range data {
		out[key] = Conceal(string(value))
	}
	return out
}

// A SecretFault says what is wrong with a Secret.
type SecretFault string

// Error returns the fault itself.
func (f SecretFault) Error() string { return string(f) }

// The faults of a Secret.
const (
	// ErrSecretBase64 is what kubectl says of a manifest whose data cannot be decoded.
	ErrSecretBase64 SecretFault = "no objects passed to create"
	// ErrSecretContent is what the API server says of data that can be decoded,
	// but is no credential file.
	ErrSecretContent SecretFault = "invalid value"
	// ErrSecretRequired is what the API server says of a Secret without the data
	// that its type promises.
	ErrSecretRequired SecretFault = "required value"
)

// A SecretError says what is wrong with a Secret, without its content.
type SecretError struct {
	Namespace, Name string
	Key             string // of the Secret's data
	Fault           SecretFault
	Err             error // more of the reason; may be nil
}

// Error speaks as kubectl and the API server do.
func (e *SecretError) Error() string {
	if e.Fault == ErrSecretBase64 {
		return fmt.Sprintf("%v: data[%s] of Secret %s is not base64", e.Fault, e.Key, quote(e.Name))
	}
	text := fmt.Sprintf("Secret %s is invalid: data[%s]: %v", quote(e.Name), e.Key, e.Fault)
	if e.Err != nil {
		text += fmt.Sprintf(": %v", e.Err)
	}
	return text
}

// Unwrap returns Fault and Err.
func (e *SecretError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Fault}
	}
	return []error{e.Fault, e.Err}
}

// Validate checks what kubectl and the API server check when a pull secret is
// created: that its data is base64 (of a Secret from [ParseSecrets]), is there,
// and can be read as a credential file. The error is a [*SecretError]. Secrets of
// other types are valid.
func (s Secret) Validate() error {
	key, legacy := s.document()
	if key == "" {
		return nil
	}
	fail := func(fault SecretFault, err error) error {
		return &SecretError{Namespace: s.Namespace, Name: s.Name, Key: key, Fault: fault, Err: err}
	}
	if slices.Contains(s.notBase64, key) {
		return fail(ErrSecretBase64, nil)
	}
	value, ok := s.Data[key]
	if !ok {
		return fail(ErrSecretRequired, nil)
	}
	if _, err := new(entries).addDocument(Origin{}, []byte(value.Reveal()), legacy); err != nil {
		return fail(ErrSecretContent, fmt.Errorf("cannot be read as a .docker/config.json file: it %w", err))
	}
	return nil
}

// document returns the key of the data that the Secret's type promises.
func (s Secret) document() (key string, legacy bool) {
	switch s.Type {
	case TypeDockerConfigJSON:
		return KeyDockerConfigJSON, false
	case TypeDockercfg:
		return KeyDockercfg, true
	}
	return "", false
}

func (s Secret) origin() Origin {
	return Origin{Kind: KindSecret, Namespace: s.Namespace, Name: s.Name, UID: s.UID}
}

// Secrets are imagePullSecrets, merged into one virtual config.json. It is a
// [PodKeyring], a [Fingerprinter] and an [Explainer], and never changes. The zero
// Secrets know no credentials, nor do nil ones.
type Secrets struct {
	table    table
	problems []error
}

// FromSecrets merges secrets as the kubelet does: the order of keys counts over
// all of them together, and for one key the order of the secrets. Secrets of
// other types, and those without data, are passed over. A Secret or an entry that
// is malformed is left out and listed by [Secrets.Problems].
func FromSecrets(secrets ...Secret) *Secrets { return Rules{}.FromSecrets(secrets...) }

// FromSecrets is [FromSecrets] under the rules r.
func (r Rules) FromSecrets(secrets ...Secret) *Secrets {
	es := entries{rules: r}
	for _, s := range secrets {
		key, legacy := s.document()
		if key == "" {
			continue
		}
		if slices.Contains(s.notBase64, key) {
			es.problem(s.origin(), s.Validate())
			continue
		}
		value := s.Data[key]
		if value.IsZero() {
			continue
		}
		if _, err := es.addDocument(s.origin(), []byte(value.Reveal()), legacy); err != nil {
			es.problem(s.origin(), fmt.Errorf("data[%s] %w", key, err))
		}
	}
	return &Secrets{newTable(r, es.list), es.problems}
}

// Problems returns what was left out and why, and warnings about what was not: each
// an [*EntryError], which for those wraps a [Warning].
func (s *Secrets) Problems() []error { return slices.Clone(s.orZero().problems) }

// Lookup yields the credentials whose key matches, in reverse byte order of the
// keys; for one key in the order of the secrets.
func (s *Secrets) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return s.orZero().table.lookup(ref, "")
}

// Fingerprint hashes what Lookup would yield.
func (s *Secrets) Fingerprint(ref reference.Reference) uint64 {
	var h maphash.Hash
	h.SetSeed(processSeed())
	s.orZero().table.hash(&h, ref.Name())
	return h.Sum64()
}

// Explain yields a note for each entry.
func (s *Secrets) Explain(ref reference.Reference) iter.Seq[Note] {
	return s.orZero().table.explain(ref.Name(), "")
}

func (s *Secrets) orZero() *Secrets {
	if s == nil {
		return new(Secrets)
	}
	return s
}

// For returns the keyring of one Pod, in which no Secret of the Pod's namespace is
// left out since one of another namespace holds the same credential. It refuses
// none: a puller.Puller does, since a Pod may use its own namespace's alone.
func (s *Secrets) For(pod Pod) Keyring { return secretsFor{s.orZero(), pod.Namespace} }

type secretsFor struct {
	*Secrets
	namespace string // of the Pod
}

func (s secretsFor) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return s.table.lookup(ref, s.namespace)
}

func (s secretsFor) Explain(ref reference.Reference) iter.Seq[Note] {
	return s.table.explain(ref.Name(), s.namespace)
}

// SecretNames returns the names of the pull secrets that count for a Pod: its own
// if it names any, those of its service account otherwise, each once.
func SecretNames(pod, serviceAccount []string) []string {
	names := pod
	if len(names) == 0 {
		names = serviceAccount
	}
	var out []string
	for _, name := range names {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
