package credentials

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/credentials/internal/diagnose"
	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/reference"
)

// The types of the Secrets that hold credentials for registries, and for each type the key
// of the Secret's data that holds the document.
const (
	TypeDockerConfigJSON = "kubernetes.io/dockerconfigjson"
	TypeDockercfg        = "kubernetes.io/dockercfg"
	KeyDockerConfigJSON  = ".dockerconfigjson"
	KeyDockercfg         = ".dockercfg"
)

// A Secret is a Kubernetes Secret, with those fields of corev1.Secret that this package
// needs:
//
//	credentials.Secret{
//		Namespace: s.Namespace, Name: s.Name, UID: string(s.UID),
//		Type: string(s.Type), Data: credentials.ConcealData(s.Data),
//	}
type Secret struct {
	Namespace, Name, UID string
	Type                 string
	Data                 map[string]Sensitive // decoded: the bytes that the base64 of a manifest encodes

	// notBase64 holds a hint about each value of the manifest's data that is not base64:
	// what the value seems to be. These values are not in Data.
	notBase64 map[string]string
	// misplaced says where the manifest has the data; "" if it is in its right place.
	misplaced string
}

// ConcealData returns the Data of a corev1.Secret with each value as a [Sensitive].
func ConcealData(data map[string][]byte) map[string]Sensitive {
	out := make(map[string]Sensitive, len(data))
	for key, value := range data {
		out[key] = Conceal(string(value))
	}
	return out
}

// A secretError says what is wrong with a Secret, in a text like that of kubectl or the API
// server. It does not hold the Secret's content.
type secretError struct {
	name string
	key  string // of the Secret's data
	why  string // noObjects, invalidValue or requiredValue
	err  error  // the cause; may be nil
}

// What is wrong with a Secret, in the words of kubectl (the first) and of the API server.
const (
	noObjects     = "no objects passed to create"
	invalidValue  = "invalid value"
	requiredValue = "required value"
)

func (e *secretError) Error() string {
	text := fmt.Sprintf("Secret %s is invalid: data[%s]: %s", quote(e.name), e.key, e.why)
	if e.why == noObjects {
		text = fmt.Sprintf("%s: data[%s] of Secret %s is not base64", e.why, e.key, quote(e.name))
	}
	if e.err != nil {
		text += fmt.Sprintf(": %v", e.err)
	}
	return text
}

func (e *secretError) Unwrap() []error {
	if e.err == nil {
		return []error{ErrSecretInvalid}
	}
	return []error{ErrSecretInvalid, e.err}
}

// Validate checks the rules that kubectl and the API server check when a pull secret is
// created: the data that the Secret's type requires must be there, must be base64 (which
// only [ParseSecrets] can find out), and must be a credential file. The error wraps
// [ErrSecretInvalid], and has a text like that of kubectl or the API server. A Secret of any
// other type is valid.
func (s Secret) Validate() error {
	key, legacy := s.document()
	if key == "" {
		return nil
	}
	fail := func(why string, err error) error {
		return &secretError{s.Name, key, why, err}
	}
	if hint, bad := s.notBase64[key]; bad {
		if hint != "" {
			return fail(noObjects, errors.New(hint))
		}
		return fail(noObjects, nil)
	}
	value, ok := s.Data[key]
	if !ok {
		return fail(requiredValue, nil)
	}
	data := []byte(value.Reveal())
	err := checkJSON(data) // addDocument would skip a byte order mark, and the API server refuses one
	if err == nil {
		_, err = new(entries).addDocument(Origin{}, data, legacy)
	}
	if err != nil {
		return fail(invalidValue, fmt.Errorf("cannot be read as a .docker/config.json file: %w", of("it", err)))
	}
	return nil
}

// document returns the key under which a Secret of this type has its document; "" if the
// type is not that of a pull secret. legacy says that the document is a .dockercfg.
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

// pullSecrets is a keyring of imagePullSecrets, which are merged as if they were one
// config.json.
type pullSecrets struct{ table table }

// FromSecrets returns a keyring of secrets, which it merges as the kubelet does: the entries
// of all secrets are ordered together by their keys, and entries with the same key by the
// order of secrets. A malformed Secret or entry is left out, and [Problems] lists it. A
// Secret that does not give a credential, because of its type or because of its data, is
// left out too, and listed with the warning [ErrGivesNothing].
//
// In the keyring that For returns, a Secret of another namespace is left out if one of the Pod's
// namespace holds the same credential. All other Secrets of other namespaces stay in the
// keyring. It is puller.Puller that refuses them, because a Pod may use only Secrets of its
// own namespace. The keyring is also a [Fingerprinter], an [Explainer] and a [Lister]. It
// never changes.
func FromSecrets(secrets []Secret, rules Rules) PodKeyring { return fromSecrets(secrets, rules) }

func fromSecrets(secrets []Secret, rules Rules) *pullSecrets {
	es := entries{rules: rules}
	for _, s := range secrets {
		es.addSecret(s)
	}
	return &pullSecrets{newTable(es)}
}

func (es *entries) addSecret(s Secret) {
	key, legacy := s.document()
	if _, bad := s.notBase64[key]; key != "" && bad {
		es.problem(s.origin(), s.Validate())
		return
	}
	value := s.Data[key]
	if value.IsZero() {
		es.problem(s.origin(), warning(ErrGivesNothing, s.diagnosis(key).NoDocument()))
		return
	}
	before := len(es.list) + len(es.problems)
	entriesBefore := len(es.list)
	data := "data[" + key + "]"
	doc, err := es.addDocument(s.origin(), []byte(value.Reveal()), legacy)
	if err != nil {
		es.problem(s.origin(), of(data, err))
		return
	}
	for _, hint := range diagnose.Fields(doc.top, legacy) {
		es.problem(s.origin(), warning(ErrGivesNothing, data+": "+hint))
	}
	for _, hint := range s.diagnosis(key).Unread() {
		es.problem(s.origin(), warning(ErrGivesNothing, hint))
	}
	switch silent := before == len(es.list)+len(es.problems); {
	case doc.helpers.any() && len(es.list) > entriesBefore:
		es.warnMarkersOfSecret(s.origin(), doc)
	case doc.helpers.any():
		es.problem(s.origin(), warning(ErrGivesNothing, data+" names credential helpers, which keep logins on the machine of docker login: no helper is asked for a Secret"))
	case silent && len(doc.markers) == 0:
		es.problem(s.origin(), warning(ErrGivesNothing, data+": "+noEntries(doc, legacy)))
	default:
		es.warnMarkers(s.origin(), doc)
	}
}

// warnMarkersOfSecret notes the hosts for which a Secret with entries gives no
// credential, because a helper keeps the login: those of entries without a credential,
// and those of credHelpers.
func (es *entries) warnMarkersOfSecret(origin Origin, doc document) {
	const kept = "a credential helper keeps its login on the machine of docker login: no helper is asked for a Secret"
	said := map[string]bool{} // hosts with an entry
	for _, m := range doc.auths {
		host, _ := keys.CutPath(keys.Normalize(m.Key))
		said[keys.LiteralHost(host)] = true
	}
	for _, m := range doc.markers {
		host, _ := keys.CutPath(keys.Normalize(m.Key))
		origin.Key = m.Key
		if len(doc.helpers.rows(host)) > 0 {
			es.aboutEntry(origin, warning(ErrGivesNothing, kept))
			continue
		}
		es.aboutEntry(origin, warning(ErrGivesNothing, diagnose.Entry(m).Empty()))
	}
	for _, host := range slices.Sorted(maps.Keys(doc.helpers.byHost)) {
		if said[host] || len(doc.helpers.rows(host)) == 0 {
			continue
		}
		origin.Key = host
		es.aboutEntry(origin, warning(ErrGivesNothing, kept))
	}
}

// diagnosis returns what package diagnose needs to know of s. key is the one under which a
// Secret of this type has its document; "" if the type is not that of a pull secret.
func (s Secret) diagnosis(key string) diagnose.Secret {
	value, isThere := s.Data[key]
	return diagnose.Secret{
		Type: s.Type, Key: key, Empty: isThere && value.IsZero(), Names: s.dataNames(),
		Value: func(name string) string { return s.Data[name].Reveal() }, Misplaced: s.misplaced,
	}
}

// dataNames returns the sorted names of all data that is not empty, including data that
// is not base64.
func (s Secret) dataNames() (names []string) {
	for name, value := range s.Data {
		if !value.IsZero() {
			names = append(names, name)
		}
	}
	for name := range s.notBase64 {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// noEntries returns the reason for which a document in the right form has no entries.
func noEntries(doc document, legacy bool) string {
	if legacy || slices.ContainsFunc(doc.top, func(m member) bool { return strings.EqualFold(m.Key, "auths") }) {
		return "the document has no entries"
	}
	return "the document has no auths"
}

func (s *pullSecrets) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return s.table.lookup(ref, "")
}

func (s *pullSecrets) Fingerprint(ref reference.Reference) uint64 {
	return s.table.fingerprint(ref)
}

func (s *pullSecrets) Explain(ref reference.Reference) iter.Seq[Note] {
	return s.table.explain(ref, "")
}

func (s *pullSecrets) For(pod Pod) Keyring { return secretsFor{s, pod.Namespace} }

type secretsFor struct {
	*pullSecrets
	namespace string // of the Pod
}

func (s secretsFor) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return s.table.lookup(ref, s.namespace)
}

func (s secretsFor) Explain(ref reference.Reference) iter.Seq[Note] {
	return s.table.explain(ref, s.namespace)
}

// SecretNames returns the names of the pull secrets that Kubernetes uses for a Pod: those
// that the Pod names. If the Pod names none, they are those of its service account. Each
// name is in the result once; empty names are left out.
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

// ParseSecrets reads the Secrets of a manifest: YAML or JSON, one document or several,
// Lists of objects, data and stringData. If data and stringData have the same name, that of
// stringData counts. ParseSecrets ignores objects of other kinds. Values of data that are
// not base64 are not an error here: [Secret.Validate] and [Problems] report them. An object
// with the same field twice is malformed, in JSON as in YAML.
//
// A text that is not a manifest in the right form is read as far as it can be understood,
// and the error says what is wrong: documents without --- between them, or a list without a
// kind. An object that seems to be a Secret and is of another kind, or of none, is not
// read, and the error names it.
//
// ParseSecrets returns all Secrets that it can read, even if it returns an error. A
// program that needs only these Secrets reports the error and continues. The error wraps
// one error for each document and each Secret that is left out, in their order. Each says
// which document it is, and the name of the Secret if that can be read; it wraps an
// [*Error] if it is about a Secret. A manifest larger than 8 MiB is refused as a whole.
func ParseSecrets(data []byte) ([]Secret, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("manifest %w", errTooLarge)
	}
	var secrets []Secret
	problems := diagnose.Manifest(data, func(fields []member, fault error) error {
		s, err := readSecret(fields)
		if err = cmp.Or(fault, err); err != nil {
			return &Error{Origin: s.origin(), Err: err}
		}
		secrets = append(secrets, s)
		return nil
	})
	if len(problems) > 0 {
		return secrets, &leftOutError{problems}
	}
	return secrets, nil
}

// readSecret reads a Secret. With an error, the returned Secret still has the name and
// the namespace, even if these come after the malformed part.
func readSecret(members []member) (Secret, error) {
	s := Secret{Data: map[string]Sensitive{}, misplaced: diagnose.Misplaced(members)}
	for _, f := range members {
		if f.Key == "metadata" {
			if err := s.readMetadata(f.Value); err != nil {
				return s, of("metadata", err)
			}
		}
	}
	if s.readStray(members) {
		return s, errors.New("is indented by no-break spaces (U+00A0): indent its lines by spaces")
	}
	var text []member
	for _, f := range members {
		var err error
		switch f.Key {
		case "type":
			s.Type, _, err = readString(f.Value)
		case "data":
			err = s.readData(f.Value)
		case "stringData":
			var more []member
			more, err = readObject(f.Value)
			text = append(text, more...)
		}
		var field *fieldError
		switch {
		case errors.As(err, &field):
			return s, field
		case err != nil:
			return s, &fieldError{f.Key, err}
		}
	}
	for _, t := range text {
		value, _, err := readString(t.Value)
		if err != nil {
			return s, fmt.Errorf("stringData[%s] %w", keys.QuoteDataName(t.Key), err)
		}
		s.Data[t.Key] = Conceal(value)
	}
	maps.DeleteFunc(s.notBase64, func(name, _ string) bool {
		_, ok := s.Data[name]
		return ok
	})
	return s, nil
}

// readStray reports whether the fields of a Secret have no-break spaces before their
// names, which YAML takes for a part of the name. It also reads the name of the Secret.
func (s *Secret) readStray(members []member) (found bool) {
	for _, f := range members {
		if !strings.HasPrefix(f.Key, "\u00a0") {
			continue
		}
		found = true
		value, _, _ := readString(f.Value)
		if !keys.IsObjectName(value) {
			continue
		}
		switch strings.TrimLeft(f.Key, "\u00a0 ") {
		case "name":
			s.Name = cmp.Or(s.Name, value)
		case "namespace":
			s.Namespace = cmp.Or(s.Namespace, value)
		}
	}
	return found
}

func (s *Secret) readMetadata(data []byte) error {
	members, err := readObject(data)
	if err != nil {
		return err
	}
	var bad error
	for _, f := range members {
		var err error
		switch f.Key {
		case "name":
			s.Name, _, err = readString(f.Value)
			if number := strings.TrimSpace(string(f.Value)); err != nil && strictjson.KindOf(f.Value) == strictjson.KindNumber && keys.IsObjectName(number) {
				s.Name, err = number, fmt.Errorf("%w: write it in quotes", err)
			}
		case "namespace":
			s.Namespace, _, err = readString(f.Value)
		case "uid":
			s.UID, _, err = readString(f.Value)
		}
		if err != nil && bad == nil {
			bad = &fieldError{f.Key, err}
		}
	}
	return bad
}

// readData decodes the values of data. Values that are not base64 are only noted in
// notBase64, for Validate and FromSecrets, so that the Secret can still be read.
func (s *Secret) readData(data []byte) error {
	members, err := readObject(data)
	if err != nil {
		return err
	}
	for _, f := range members {
		text, _, err := readString(f.Value)
		if err != nil {
			return &fieldError{"data[" + keys.QuoteDataName(f.Key) + "]", err}
		}
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			if s.notBase64 == nil {
				s.notBase64 = map[string]string{}
			}
			s.notBase64[f.Key] = diagnose.Data(text)
			delete(s.Data, f.Key)
			continue
		}
		s.Data[f.Key] = Conceal(string(value))
	}
	return nil
}
