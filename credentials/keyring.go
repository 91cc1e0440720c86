package credentials

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/pullkit/pullkit/reference"
)

// A Keyring knows credentials for image names. Its method may be called
// concurrently.
//
// A Keyring may have more methods, which are optional: those of a [Fingerprinter], an
// [Explainer], a [PodKeyring] and a [Lister]. A keyring that wraps another one and
// leaves them out loses what they are for: pulls are not shared, nothing says why a
// credential was not used, plugins are not given the Pod's token, and [MarshalConfig]
// refuses it.
type Keyring interface {
	// Lookup yields the candidates for ref in the order to try them. A yielded
	// error means that one source could not answer; the sequence goes on after
	// it. No lock is held while yield runs, and breaking off stops later
	// sources from being asked.
	Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error]
}

// A Fingerprinter is a Keyring that can say cheaply whether its candidates for
// an image have changed. Optional.
type Fingerprinter interface {
	// Fingerprint hashes the candidates for ref with a seed of the process, so
	// that it says nothing about them. It does no I/O: helpers and plugins add
	// their configuration only, not what they would answer.
	Fingerprint(ref reference.Reference) uint64
}

// An Explainer is a Keyring that can say which of its entries match an image
// and why the others do not. Optional.
type Explainer interface {
	// Explain yields a note for each entry, in the order in which Lookup would
	// come to it, and may yield notes for what was brought and is not an entry, such
	// as a Secret that holds none. It starts no program.
	//
	// Of the zero Reference it yields notes about all that is wrong with what was
	// brought, whichever image that is for: see [Problems].
	Explain(ref reference.Reference) iter.Seq[Note]
}

// A Note is what an Explainer says of one entry, or of a source without entries.
type Note struct {
	Origin   Origin
	Username string // "" for a helper or plugin, which was not asked
	Matched  bool
	Why      string // human-readable: why it matched or not, or that it was not run
	// Fingerprint is equal for matching entries that hold the same credential, and says
	// nothing else: it is a hash with a seed of the process. It is 0 for a helper or
	// plugin, which was not asked.
	Fingerprint uint64
	// Err is set if the note is about something that looks wrong, and that may be
	// why the image has no good credential: an [*EntryError]. The [Reason] that it wraps
	// is a warning unless the entry or its source is malformed. Nil for all other notes.
	Err error
}

// A PodKeyring is a Keyring whose answers depend on the Pod that the image is
// for, as those of plugins that are given the Pod's service-account token.
// Without For it answers as for no Pod.
type PodKeyring interface {
	Keyring
	// For returns the keyring of one Pod.
	For(pod Pod) Keyring
}

// A Pod is what a keyring needs to know of the Pod that an image is for. The
// zero Pod stands for none.
type Pod struct {
	Namespace, Name, UID string
	ServiceAccount       ServiceAccount
	// Annotations are those of the service account.
	Annotations map[string]string
}

// For returns ring's keyring of one Pod: ring.For(pod) if ring is a
// [PodKeyring], ring itself otherwise, which may be nil.
func For(ring Keyring, pod Pod) Keyring {
	if ring, ok := ring.(PodKeyring); ok {
		return ring.For(pod)
	}
	return ring
}

// Join asks rings in turn: what the first knows is tried before what the second
// knows, however specific. A credential that is the [Credential.Same] as an
// earlier one is left out. Nil rings are skipped.
//
// The joined keyring is a [PodKeyring] and an [Explainer]; rings that are none of
// these take no part in that. It is a [Fingerprinter] only if all rings are: a
// fingerprint that leaves out a ring would be equal for unequal candidates.
//
// What a ring yields that was read under the kubelet's rules is not left out: for the
// kubelet, a credential that was tried before is tried again.
func Join(rings ...Keyring) Keyring {
	j := joined{}
	for _, ring := range rings {
		if ring != nil {
			j.rings = append(j.rings, ring)
		}
	}
	return j.ring()
}

// ring is j with those optional methods that all of its rings have.
func (j joined) ring() Keyring {
	for _, ring := range j.rings {
		if _, ok := ring.(Fingerprinter); !ok {
			return j
		}
	}
	return joinedPrints{j}
}

// joinedPrints are joined rings each of which is a Fingerprinter.
type joinedPrints struct{ joined }

type joined struct {
	rings     []Keyring
	namespace string // of the Pod that it is for
}

func (j joined) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		seen := seenSet{}
		for _, ring := range j.rings {
			kubelet := rulesOf(ring).Kubelet
			for cred, err := range ring.Lookup(ctx, ref) {
				if err == nil && !kubelet && !seen.add(cred, cred.Origin.foreignTo(j.namespace)) {
					continue
				}
				if !yield(cred, err) {
					return
				}
			}
		}
	}
}

func (j joined) For(pod Pod) Keyring {
	rings := make([]Keyring, len(j.rings))
	for i, ring := range j.rings {
		rings[i] = For(ring, pod)
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

// rulesOf returns the rules that a ring was read under: the kubelet's, if those of all
// that it consists of are.
func rulesOf(ring Keyring) Rules {
	if ring, ok := ring.(interface{ ruledBy() Rules }); ok {
		return ring.ruledBy()
	}
	return Rules{}
}

func (j joined) ruledBy() Rules {
	return Rules{Kubelet: len(j.rings) > 0 && !slices.ContainsFunc(j.rings, func(ring Keyring) bool { return !rulesOf(ring).Kubelet })}
}

func (j joined) Explain(ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		seen := map[uint64]bool{} // by Fingerprint, as a seenSet
		for _, ring := range j.rings {
			if explainer, ok := ring.(Explainer); ok {
				kubelet := rulesOf(ring).Kubelet
				for note := range explainer.Explain(ref) {
					if note.Matched && note.Fingerprint != 0 && !kubelet {
						foreign := note.Origin.foreignTo(j.namespace)
						if own, known := seen[note.Fingerprint]; own || known && foreign {
							note.Matched, note.Why = false, string(repeated)
						} else {
							seen[note.Fingerprint] = !foreign
						}
					}
					if !yield(note) {
						return
					}
				}
			}
		}
	}
}

// Problems returns what is wrong with what ring consists of, whichever image that is
// for: what was left out and why, and warnings about what was not. Each is an
// [*EntryError], whose [Reason], if it is a warning, says so. Problems are the Err of
// the notes of ring's Explain; there are none if ring is not an [Explainer].
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

// orZero is p, or a zero value where p is nil. A program may join a keyring that it did
// not get: a nil pointer in a Keyring is not a nil Keyring, which Join would leave out.
func orZero[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}

// lookup is ring.Lookup, and empty for a nil ring.
func lookup(ctx context.Context, ring Keyring, ref reference.Reference) iter.Seq2[Credential, error] {
	if ring == nil {
		return func(func(Credential, error) bool) {}
	}
	return ring.Lookup(ctx, ref)
}

// A Static keyring yields its credentials, in order, for every image. It has no
// keys, so the one who chooses the image's name chooses the registry that is shown them:
// a login belongs into [Login], which is for one registry. Static{{}}, joined at the
// end of a keyring, adds an anonymous last try.
//
// Credentials without an Origin get KindStatic. A Static must not be changed
// while it is in use. The zero Static yields nothing.
type Static []Credential

// Lookup yields all of s.
func (s Static) Lookup(_ context.Context, _ reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		for _, c := range s {
			if !yield(c.labelled(), nil) {
				return
			}
		}
	}
}

// Fingerprint hashes all of s.
func (s Static) Fingerprint(_ reference.Reference) uint64 {
	h := newHash()
	for _, c := range s {
		c.hash(h)
	}
	return h.Sum64()
}

// Explain yields a matching note for each credential of s.
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

// Login returns a keyring with one login, for one registry or for a part of it. key
// is what a config.json file has under auths: registry.example, or
// registry.example/team for only the repositories below team; docker.io is Docker
// Hub. The credential goes to no other registry, whatever image is asked for. See
// [Match] for all that a key may be.
//
// The error says that the key is malformed or matches no image, or that there is no
// user name or password. What looks wrong in the login is listed by [Problems]. The
// keyring is a [Fingerprinter], an [Explainer] and a [Lister];
// [Join] makes one of several.
func Login(key, username string, password Sensitive) (Keyring, error) {
	switch {
	case username == "":
		return nil, errors.New("a login needs a user name")
	case strings.Contains(username, ":"):
		return nil, errors.New("a user name has no colon: a registry would read what is behind it as the password")
	case password.IsZero():
		return nil, errors.New("a login needs a password")
	}
	c := Credential{Username: username, Password: password, Origin: Origin{Kind: KindStatic, Key: key}}
	l := login{username: username, password: password.Reveal()}
	es := entries{}
	es.add(c, l.advice(c)...)
	for _, p := range es.problems {
		if len(es.list) == 0 || errors.Is(p.Err, ErrKeyMatchesNothing) {
			return nil, fmt.Errorf("login for %s: %w", quote(redactKey(key)), p.Err)
		}
	}
	return &File{table: newTable(es)}, nil
}

// A seenSet remembers credentials, so that none is yielded twice. The value says
// whether it was one that the Pod may use. Secrets that are foreign to the Pod's
// namespace hide nothing but each other: the Pod may not use them, and may hold the
// same credential itself.
type seenSet map[Credential]bool

// add adds c, and reports whether it is to be yielded.
func (s seenSet) add(c Credential, foreign bool) bool {
	c = c.bare()
	own, known := s[c]
	if own || known && foreign {
		return false
	}
	s[c] = !foreign
	return true
}

// foreignTo reports whether o is a Secret of another namespace than the given one,
// which the Pods there may not use. Nothing is foreign to "", which means no Pod.
func (o Origin) foreignTo(namespace string) bool {
	return namespace != "" && o.Kind == KindSecret && o.Namespace != namespace
}

// processSeed is one seed for all keyrings of the process, so that two keyrings
// built apart from the same secrets have the same fingerprint.
var processSeed = sync.OnceValue(maphash.MakeSeed)

func newHash() *maphash.Hash {
	h := new(maphash.Hash)
	h.SetSeed(processSeed())
	return h
}

// hash adds what makes c authenticate as it does. Each part carries its length,
// so that no two credentials look alike to the hash.
func (c Credential) hash(h *maphash.Hash) {
	hashString(h, c.Username)
	hashString(h, c.Password.Reveal())
	hashString(h, c.IdentityToken.Reveal())
	hashString(h, c.RegistryToken.Reveal())
}

// fingerprint is c's Note.Fingerprint.
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
