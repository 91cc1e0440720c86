package credentials

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"strings"
	"sync"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/reference"
)

// A Keyring knows credentials for images. Lookup may be called concurrently.
//
// A Keyring may have more methods, which are optional: those of a [Fingerprinter], an
// [Explainer], a [PodKeyring] and a [Lister]. A keyring that wraps another keyring should
// also have the optional methods of that keyring. Without them, pulls are not shared, no
// note says why a credential was not used, plugins do not receive the Pod's token, and
// [MarshalConfig] refuses the keyring. MarshalConfig also refuses a keyring that wraps
// one of [Join], [File.WithHelpers], [NewHelper], [ReadProviders] or [ParseProviders],
// because these are not Listers. Otherwise a keyring that wraps another one works like
// the wrapped keyring.
type Keyring interface {
	// Lookup yields the candidates for ref in the order in which they are to be tried. A
	// yielded error means that one source could not answer; the sequence continues after
	// it. The keyring does not hold a lock while yield runs. It asks later sources only
	// if yield returns true.
	Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error]
}

// A Fingerprinter is a Keyring that can say, without asking a program, whether its
// candidates for an image changed. Its method is optional.
type Fingerprinter interface {
	// Fingerprint returns a hash of the candidates for ref. The seed of the hash is
	// random in each process, so that the hash says nothing about the candidates. Of a
	// helper or a plugin it hashes the configuration, not the answer, because it does
	// not start programs.
	Fingerprint(ref reference.Reference) uint64
}

// An Explainer is a Keyring that can say which of its entries match an image, and why the
// others do not. Its method is optional.
type Explainer interface {
	// Explain yields a note for each entry, in the order in which Lookup would try the
	// entries. It also yields notes about what is wrong with the sources, as far as this
	// may concern the image, and it may yield notes about a source without entries, such as
	// a Secret without a credential. It does not start programs.
	//
	// For the zero Reference it yields only notes about what is wrong with the sources,
	// for all images: see [Problems].
	Explain(ref reference.Reference) iter.Seq[Note]
}

// A Note is what an Explainer says about one entry, or about a source without entries.
type Note struct {
	Origin   Origin // of the entry; without a Key for a source
	Username string // of the entry's credential; "" for a helper or plugin, because it was not asked
	Matched  bool   // the entry's credential is a candidate for the image
	Why      string // why the entry matches or not; for a reader, not for a program
	// Fingerprint is equal for matching entries that hold the same credential. It says
	// nothing else about the credential, because it is a hash with a random seed of the
	// process. It is 0 for a helper or plugin, because it was not asked.
	Fingerprint uint64
	// Err is an [*Error] if the note is about something that looks wrong and may be
	// the reason for which the image has no good credential. It is a warning unless the
	// entry or its source is malformed: see [Error.Warning]. Err is nil in all other notes.
	Err error
}

// A PodKeyring is a Keyring whose candidates depend on the Pod that needs the image.
// Plugins that receive the Pod's service-account token are an example. The PodKeyring
// itself answers for no Pod.
type PodKeyring interface {
	Keyring
	// For returns the keyring of one Pod. For a keyring that may not be a PodKeyring, call
	// Join(ring).For(pod).
	For(pod Pod) Keyring
}

// A Pod is what a keyring needs to know about the Pod that needs an image. The zero Pod
// means that the image is not for a Pod.
type Pod struct {
	Namespace, Name, UID string
	ServiceAccount       ServiceAccount
	// Annotations are the annotations of the service account.
	Annotations map[string]string
}

// forPod returns ring.For(pod) if ring is a [PodKeyring], and ring itself otherwise.
func forPod(ring Keyring, pod Pod) Keyring {
	if ring, ok := ring.(PodKeyring); ok {
		return ring.For(pod)
	}
	return ring
}

// Join returns a keyring of rings. It yields all candidates of the first ring before
// those of the second, even if the key of a later candidate is more specific. It leaves
// out a credential that is the [Credential.Same] as one of an earlier ring. If one ring
// yields the same credential twice, as a ring that was read under the kubelet's rules
// does, Join also yields it twice. Join(a, Join(b, c)) therefore yields what Join(a, b,
// c) yields. Nil rings are skipped.
//
// The joined keyring is also an [Explainer]. Its Explain yields nothing about a ring that
// is not an [Explainer], and its For does not change a ring that is not a [PodKeyring].
// The joined keyring is a [Fingerprinter] only if all rings are Fingerprinters, because a
// fingerprint without one of the rings could be equal for unequal candidates.
func Join(rings ...Keyring) PodKeyring {
	j := joined{}
	for _, ring := range rings {
		if ring != nil {
			j.rings = append(j.rings, ring)
		}
	}
	return j.ring()
}

// ring returns j, with the method Fingerprint if all of its rings have it.
func (j joined) ring() PodKeyring {
	for _, ring := range j.rings {
		if _, ok := ring.(Fingerprinter); !ok {
			return j
		}
	}
	return joinedPrints{j}
}

// joinedPrints are joined rings that are all Fingerprinters.
type joinedPrints struct{ joined }

type joined struct {
	rings     []Keyring
	namespace string // of the Pod that the keyring is for; "" for no Pod
}

func (j joined) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		earlier := seenSet[Credential]{} // the candidates of the rings before the current one
		for _, ring := range j.rings {
			own := seenSet[Credential]{}
			for cred, err := range ring.Lookup(ctx, ref) {
				if err == nil {
					foreign := cred.Origin.foreignTo(j.namespace)
					if earlier.has(cred.bare(), foreign) {
						continue
					}
					own.put(cred.bare(), foreign)
				}
				if !yield(cred, err) {
					return
				}
			}
			earlier.putAll(own)
		}
	}
}

func (j joined) For(pod Pod) Keyring {
	rings := make([]Keyring, len(j.rings))
	for i, ring := range j.rings {
		rings[i] = forPod(ring, pod)
	}
	return joined{rings, pod.Namespace}.ring()
}

func (j joinedPrints) Fingerprint(ref reference.Reference) uint64 {
	h := newHash()
	for _, ring := range j.rings {
		hashUint(h, ring.(Fingerprinter).Fingerprint(ref))
	}
	return h.Sum64()
}

func (j joined) Explain(ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		earlier := seenSet[uint64]{} // the fingerprints of the notes of the rings before the current one
		for _, ring := range j.rings {
			explainer, ok := ring.(Explainer)
			if !ok {
				continue
			}
			own := seenSet[uint64]{}
			for note := range explainer.Explain(ref) {
				if note.Matched && note.Fingerprint != 0 {
					foreign := note.Origin.foreignTo(j.namespace)
					if earlier.has(note.Fingerprint, foreign) {
						note.Matched, note.Why = false, string(repeated)
					} else {
						own.put(note.Fingerprint, foreign)
					}
				}
				if !yield(note) {
					return
				}
			}
			earlier.putAll(own)
		}
	}
}

// Problems returns all that is wrong with the sources of ring, for all images: an error for
// each entry and source that was left out, and warnings about those that were not. Each
// error is an [*Error]; [Error.Warning] says whether it is a warning. Of one
// source, Problems returns the first hundred errors, and then one that says how many more
// there are.
//
// Problems takes the errors from the notes of ring's Explain, and returns nil if ring is
// not an [Explainer].
func Problems(ring Keyring) []error {
	explainer, ok := ring.(Explainer)
	if !ok {
		return nil
	}
	var problems []error
	for note := range explainer.Explain(reference.Reference{}) {
		if note.Err != nil {
			problems = append(problems, note.Err)
		}
	}
	return problems
}

// orZero returns p, or a pointer to a zero value if p is nil. The methods of keyrings
// need it because a program may pass Join a nil *File, for example after an error. Such a
// pointer in a Keyring is not a nil Keyring, so Join does not skip it.
func orZero[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

// lookup returns ring.Lookup(ctx, ref), and an empty sequence if ring is nil.
func lookup(ctx context.Context, ring Keyring, ref reference.Reference) iter.Seq2[Credential, error] {
	if ring == nil {
		return func(func(Credential, error) bool) {}
	}
	return ring.Lookup(ctx, ref)
}

// A Static keyring yields its credentials, in order, for every image of every registry. It
// does not have keys, so that a user who chooses the image's name also chooses the
// registry that receives the credentials. For the login of one registry use [Login]
// instead. Static{{}} as the last keyring of [Join] adds a last, anonymous attempt.
//
// A credential without an Origin is yielded with the Origin of [KindStatic]. A Static must
// not be changed while it is in use. The zero Static yields nothing.
type Static []Credential

// Lookup yields all credentials of s.
func (s Static) Lookup(_ context.Context, _ reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		for _, c := range s {
			if !yield(c.labelled(), nil) {
				return
			}
		}
	}
}

// Fingerprint returns a hash of all credentials of s.
func (s Static) Fingerprint(_ reference.Reference) uint64 {
	h := newHash()
	for _, c := range s {
		c.hash(h)
	}
	return h.Sum64()
}

// Explain yields a note for each credential of s, which says that it matches.
func (s Static) Explain(_ reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		for _, c := range s {
			c = c.labelled()
			if !yield(Note{Origin: c.Origin, Username: c.Username, Matched: true, Why: "given for every image", Fingerprint: c.fingerprint()}) {
				return
			}
		}
	}
}

func (c Credential) labelled() Credential {
	if c.Origin == (Origin{}) && !c.Anonymous() {
		c.Origin = Origin{Kind: KindStatic}
	}
	return c
}

// Login returns a keyring with one login, for one registry or for a part of one. key is a
// key as a config.json file has them under auths: registry.example is a whole registry,
// registry.example/team only its repositories below team, and docker.io is Docker Hub.
// The credential is sent to no other registry, for any image. See [Match] for all forms
// of a key.
//
// The error says that the key is malformed or matches no image, that the user name or the
// password is empty, or that the user name has a colon. [Problems] lists what looks wrong
// in the login. The keyring is a [Fingerprinter], an [Explainer] and a [Lister].
func Login(key, username string, password Sensitive) (Keyring, error) {
	switch {
	case username == "":
		return nil, errors.New("a login needs a user name")
	case strings.Contains(username, ":"):
		return nil, errors.New("a user name must not have a colon, because a registry reads what follows it as the password")
	case password.IsZero():
		return nil, errors.New("a login needs a password")
	}
	c := Credential{Username: username, Password: password, Origin: Origin{Kind: KindStatic, Key: key}}
	l := login{username: username, password: password.Reveal()}
	es := entries{}
	es.add(c, l.odd(c)...)
	for _, p := range es.problems {
		if len(es.list) == 0 || errors.Is(p.Err, errKeyMatches) {
			return nil, fmt.Errorf("login for %s: %w", quote(keys.Redact(key)), p.Err)
		}
	}
	return &File{table: newTable(es)}, nil
}

// A seenSet holds the candidates that were yielded: their [Credential.bare], or the
// fingerprints of their notes. The value says whether the Pod may use the credential. A
// credential of a foreign Secret, which is one of another namespace than the Pod's, is
// left out only after an equal one. The Pod's own credential is never left out because of
// a foreign Secret, because the Pod may use only its own.
type seenSet[K comparable] map[K]bool

// has reports whether k is to be left out. foreign says that k is of a foreign Secret.
func (s seenSet[K]) has(k K, foreign bool) bool {
	own, known := s[k]
	return own || known && foreign
}

func (s seenSet[K]) put(k K, foreign bool) { s[k] = s[k] || !foreign }

func (s seenSet[K]) putAll(others seenSet[K]) {
	for k, own := range others {
		s.put(k, !own)
	}
}

// add adds k, and reports whether k is to be yielded.
func (s seenSet[K]) add(k K, foreign bool) bool {
	if s.has(k, foreign) {
		return false
	}
	s.put(k, foreign)
	return true
}

// foreignTo reports whether o is a Secret of a namespace other than the given one. Pods of
// that namespace may not use it. If namespace is "", which means no Pod, it reports false.
func (o Origin) foreignTo(namespace string) bool {
	return namespace != "" && o.Kind == KindSecret && o.Namespace != namespace
}

// processSeed returns the seed of all hashes in the process. It is one seed so that two
// keyrings that are made of the same secrets have the same fingerprint.
var processSeed = sync.OnceValue(maphash.MakeSeed)

func newHash() *maphash.Hash {
	h := new(maphash.Hash)
	h.SetSeed(processSeed())
	return h
}

// hash writes all that c authenticates with to h. The length of each part precedes it, so
// that two different credentials never write the same bytes.
func (c Credential) hash(h *maphash.Hash) {
	hashString(h, c.Username)
	hashString(h, c.Password.Reveal())
	hashString(h, c.IdentityToken.Reveal())
	hashString(h, c.RegistryToken.Reveal())
}

// fingerprint returns the Note.Fingerprint of c.
func (c Credential) fingerprint() uint64 {
	h := newHash()
	c.hash(h)
	return h.Sum64()
}

func hashString(h *maphash.Hash, s string) {
	hashUint(h, uint64(len(s)))
	h.WriteString(s)
}

func hashUint(h *maphash.Hash, n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	h.Write(b[:])
}
