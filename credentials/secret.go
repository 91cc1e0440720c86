package credentials

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/internal/strictjson"
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

	// notBase64 has the names that are not in Data because their value in the manifest
	// is not base64, each with what that value seems to be.
	notBase64 map[string]string
	// misplaced says where the manifest has the data, if that is not where it must be.
	misplaced string
}

// ConcealData wraps the Data of a corev1.Secret.
func ConcealData(data map[string][]byte) map[string]Sensitive {
	out := make(map[string]Sensitive, len(data))
	for key, value := range data {
		out[key] = Conceal(string(value))
	}
	return out
}

// A SecretError says what is wrong with a Secret, without its content.
type SecretError struct {
	Namespace, Name string
	Key             string // of the Secret's data
	Reason          Reason
	Err             error // more of the reason; may be nil
}

// Error speaks as kubectl and the API server do.
func (e *SecretError) Error() string {
	text := fmt.Sprintf("Secret %s is invalid: data[%s]: %v", quote(e.Name), e.Key, e.Reason)
	if e.Reason == ErrSecretBase64 {
		text = fmt.Sprintf("%v: data[%s] of Secret %s is not base64", e.Reason, e.Key, quote(e.Name))
	}
	if e.Err != nil {
		text += fmt.Sprintf(": %v", e.Err)
	}
	return text
}

// Unwrap returns Reason and Err.
func (e *SecretError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
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
	fail := func(reason Reason, err error) error {
		return &SecretError{Namespace: s.Namespace, Name: s.Name, Key: key, Reason: reason, Err: err}
	}
	if hint, bad := s.notBase64[key]; bad {
		if hint != "" {
			return fail(ErrSecretBase64, errors.New(hint))
		}
		return fail(ErrSecretBase64, nil)
	}
	value, ok := s.Data[key]
	if !ok {
		return fail(ErrSecretRequired, nil)
	}
	data := []byte(value.Reveal())
	err := checkJSON(data) // before a byte order mark is skipped: the API server refuses one
	if err == nil {
		_, err = new(entries).addDocument(Origin{}, data, legacy)
	}
	if err != nil {
		return fail(ErrSecretContent, fmt.Errorf("cannot be read as a .docker/config.json file: %w", of("it", err)))
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
type Secrets struct{ table table }

// FromSecrets merges secrets as the kubelet does: the order of keys counts over
// all of them together, and for one key the order of the secrets. A Secret or an
// entry that is malformed is left out and listed by [Problems]. A Secret that
// gives no credential, because of its type, its data or what is in that, is passed
// over and listed there too, with the warning [ErrGivesNothing].
func FromSecrets(secrets []Secret, rules Rules) *Secrets {
	es := entries{rules: rules}
	for _, s := range secrets {
		es.addSecret(s)
	}
	return &Secrets{newTable(es)}
}

func (es *entries) addSecret(s Secret) {
	key, legacy := s.document()
	if _, bad := s.notBase64[key]; key != "" && bad {
		es.problem(s.origin(), s.Validate())
		return
	}
	value := s.Data[key]
	if value.IsZero() {
		es.problem(s.origin(), warning(ErrGivesNothing, s.withoutDocument(key)))
		return
	}
	before := len(es.list) + len(es.problems)
	data := "data[" + key + "]"
	doc, err := es.addDocument(s.origin(), []byte(value.Reveal()), legacy)
	if err != nil {
		es.problem(s.origin(), of(data, err))
		return
	}
	for _, hint := range formHints(doc.top, legacy) {
		es.problem(s.origin(), warning(ErrGivesNothing, data+": "+hint))
	}
	for _, name := range s.dataNames() {
		if name != key && s.holdsDocument(name) {
			es.problem(s.origin(), warning(ErrGivesNothing, fmt.Sprintf("data[%s] holds another document, which is not read: a Secret of type %s has one, under %s", dataName(name), s.Type, key)))
		}
	}
	switch silent := before == len(es.list)+len(es.problems); {
	case doc.helpers.any():
		es.problem(s.origin(), warning(ErrGivesNothing, data+" names credential helpers, which keep logins on the machine of docker login: no helper is asked for a Secret"))
	case silent && len(doc.markers) == 0:
		es.problem(s.origin(), warning(ErrGivesNothing, data+": "+noEntries(doc, legacy)))
	default:
		es.warnMarkers(s.origin(), doc)
	}
}

// dataNames are the names of all data that has a value, readable or not, in order.
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

// holdsDocument reports whether data holds a credential document, or is called like one.
func (s Secret) holdsDocument(name string) bool {
	if name == KeyDockerConfigJSON || name == KeyDockercfg || isDocumentName(name) {
		return true
	}
	document := jsonWithin(s.Data[name].Reveal())
	return document != nil && hasDocument(document)
}

// noEntries says why a document that is in the right form holds no entries.
func noEntries(doc document, legacy bool) string {
	if legacy || slices.ContainsFunc(doc.top, func(m member) bool { return strings.EqualFold(m.Key, "auths") }) {
		return "the document has no entries"
	}
	return "the document has no auths"
}

// withoutDocument says why the Secret has no document. key is where its type has it;
// "" if the type is not that of a pull secret.
func (s Secret) withoutDocument(key string) string {
	var there []string
	for _, name := range s.dataNames() {
		if name == KeyDockerConfigJSON || name == KeyDockercfg {
			there = append(there, name)
		}
	}
	switch {
	case key == "":
		return s.wrongType(there)
	case len(there) > 0:
		return fmt.Sprintf("data[%s] belongs to a Secret of another type; this one is of type %s, which has its document under %s", there[0], s.Type, key)
	case s.misplaced != "":
		return s.misplaced
	}
	for _, name := range s.dataNames() {
		if name != key && s.holdsDocument(name) && isDocumentName(name) {
			return fmt.Sprintf("it has data[%s], which must be called %s", quote(redactKey(name)), quote(key))
		}
	}
	if _, ok := s.Data[key]; ok {
		return fmt.Sprintf("data[%s] is empty", key)
	}
	for _, name := range s.dataNames() {
		if s.holdsDocument(name) {
			return fmt.Sprintf("it has no data[%s]; data[%s] holds a document, and must be called so", key, dataName(name))
		}
	}
	if len(s.dataNames()) == 0 {
		return "it has no data"
	}
	return fmt.Sprintf("it has no data[%s]", key)
}

// findMisplaced says where a Secret has the data that a Secret of its type must have
// under data or stringData; "" if it has it nowhere else.
func findMisplaced(members []member) string {
	for _, f := range members {
		if name := strings.TrimSpace(f.Key); f.Key != "data" && f.Key != "stringData" && (strings.EqualFold(name, "data") || strings.EqualFold(name, "stringData")) {
			return fmt.Sprintf("it has a field %s, which is written data, or stringData", quote(f.Key))
		}
	}
	effort := 0
	var find func(members []member, around []string) []string
	find = func(members []member, around []string) []string {
		for _, f := range members {
			names := append(slices.Clip(around), quoteName(f.Key))
			if f.Key == KeyDockerConfigJSON || f.Key == KeyDockercfg {
				return names
			}
			if effort += len(f.Value); effort > maxWrapped || len(names) > maxWrapping || strictjson.KindOf(f.Value) != strictjson.KindObject {
				continue
			}
			if inner, err := readObject(f.Value); err == nil && !(len(around) == 0 && (f.Key == "data" || f.Key == "stringData")) {
				if found := find(inner, names); found != nil {
					return found
				}
			}
		}
		return nil
	}
	names := find(members, nil)
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "it has " + names[0] + " outside of data: put it under data, or under stringData if it is not base64"
	}
	last := len(names) - 1
	return "it has " + names[last] + " " + wrapping{names: names[:last]}.where() + ": put it under data of the Secret itself, or under stringData if it is not base64"
}

// wrongType says that the Secret's type is not that of a pull secret.
func (s Secret) wrongType(there []string) string {
	text := "it is of type " + quote(s.Type)
	if s.Type == "" {
		text = "it has no type"
	}
	right := TypeDockerConfigJSON
	if slices.Equal(there, []string{KeyDockercfg}) {
		right = TypeDockercfg
	}
	return text + ", and only Secrets of the types " + TypeDockerConfigJSON + " and " + TypeDockercfg +
		" are read: create it again as " + right + ", because the type of a Secret cannot be changed"
}

// isDocumentName reports whether a name of data is one that people give to a
// credential document by mistake.
func isDocumentName(name string) bool {
	small := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(name))
	switch small {
	case "dockerconfigjson", "dockerconfig", "dockercfg", "dockercfgjson", "configjson", "dockerjson", "config", "auth", "authjson", "auths":
		return true
	}
	return false
}

func (s *Secrets) ruledBy() Rules { return orZero(s).table.rules }

// Lookup yields the credentials whose key matches, in reverse byte order of the
// keys; for one key in the order of the secrets.
func (s *Secrets) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return orZero(s).table.lookup(ref, "")
}

// Fingerprint hashes what Lookup would yield.
func (s *Secrets) Fingerprint(ref reference.Reference) uint64 {
	return orZero(s).table.fingerprint(ref)
}

// Explain yields a note for each entry, then one for each of the Problems that may
// be why ref has no good credential, such as a Secret that gives none.
func (s *Secrets) Explain(ref reference.Reference) iter.Seq[Note] {
	return orZero(s).table.explain(ref, "")
}

// For returns the keyring of one Pod, in which no Secret of the Pod's namespace is
// left out because one of another namespace holds the same credential. It refuses none:
// a puller.Puller does, because a Pod may use only those of its own namespace.
func (s *Secrets) For(pod Pod) Keyring { return secretsFor{orZero(s), pod.Namespace} }

type secretsFor struct {
	*Secrets
	namespace string // of the Pod
}

func (s secretsFor) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return s.table.lookup(ref, s.namespace)
}

func (s secretsFor) Explain(ref reference.Reference) iter.Seq[Note] {
	return s.table.explain(ref, s.namespace)
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

// readSecret reads a Secret. On error, what is returned has its name and namespace,
// wherever these are in the text.
func readSecret(members []member) (Secret, error) {
	s := Secret{Data: map[string]Sensitive{}, misplaced: findMisplaced(members)}
	for _, f := range members {
		if f.Key == "metadata" {
			if err := s.readMetadata(f.Value); err != nil {
				return s, of("metadata", err)
			}
		}
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
			return s, fmt.Errorf("stringData[%s] %w", dataName(t.Key), err)
		}
		s.Data[t.Key] = Conceal(value)
	}
	maps.DeleteFunc(s.notBase64, func(name, _ string) bool {
		_, ok := s.Data[name]
		return ok
	})
	return s, nil
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

// readData decodes data. What is not base64 is left for Validate to report, so that
// one such value does not cost the manifest's other Secrets.
func (s *Secret) readData(data []byte) error {
	members, err := readObject(data)
	if err != nil {
		return err
	}
	for _, f := range members {
		text, _, err := readString(f.Value)
		if err != nil {
			return &fieldError{"data[" + dataName(f.Key) + "]", err}
		}
		value, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			if s.notBase64 == nil {
				s.notBase64 = map[string]string{}
			}
			s.notBase64[f.Key] = dataHint(text)
			delete(s.Data, f.Key)
			continue
		}
		s.Data[f.Key] = Conceal(string(value))
	}
	return nil
}

// dataName is the name of a value of data, as it is if it is one that a Secret can
// have, and quoted otherwise.
func dataName(name string) string {
	if isDataName(name) && redactKey(name) == name {
		return name
	}
	return quote(redactKey(name))
}

// dataHint says what a value of data that is not base64 seems to be; "" if that is not
// known.
func dataHint(text string) string {
	switch trimmed := strings.TrimSpace(text); {
	case strings.HasPrefix(trimmed, "{") && strictjson.Valid([]byte(trimmed)):
		return "it is JSON that is not encoded: write it under stringData"
	case isPlaceholder(trimmed):
		return "it looks like a placeholder that was never filled in"
	}
	return strings.TrimPrefix(base64Hint(text), ": ")
}
