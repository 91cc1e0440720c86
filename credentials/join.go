package credentials

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"

	"github.com/pullkit/pullkit/reference"
)

// A PodKeyring is a Keyring whose answers depend on the Pod that the image is
// for, as those of plugins that are given the Pod's service-account token.
// Without For it answers as for no Pod.
type PodKeyring interface {
	Keyring
	// For returns the keyring of one Pod.
	For(pod Pod) Keyring
}

// A Pod is what a keyring needs to know of the Pod that an image is for. The
// zero Pod is no Pod.
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
// [Problems] lists those of all rings.
func Join(rings ...Keyring) Keyring { return Rules{}.Join(rings...) }

// Join is [Join] under the rules r: with Kubelet set, a credential that was tried
// before is tried again.
func (r Rules) Join(rings ...Keyring) Keyring {
	j := joined{rules: r}
	for _, ring := range rings {
		if ring != nil {
			j.rings = append(j.rings, ring)
		}
	}
	return j.ring()
}

// ring is j with the methods that it can stand by.
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
	rules     Rules
	rings     []Keyring
	namespace string // of the Pod that it is for
}

func (j joined) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		seen := podSeenSet{namespace: j.namespace}
		for _, ring := range j.rings {
			for cred, err := range ring.Lookup(ctx, ref) {
				if err == nil && !j.rules.Kubelet && !seen.add(cred) {
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
	return joined{j.rules, rings, pod.Namespace}.ring()
}

func (j joinedPrints) Fingerprint(ref reference.Reference) uint64 {
	var h maphash.Hash
	h.SetSeed(processSeed())
	for _, ring := range j.rings {
		hashUint(&h, ring.(Fingerprinter).Fingerprint(ref))
	}
	return h.Sum64()
}

// Problems lists what the rings had to leave out, and their warnings.
func (j joined) Problems() []error {
	var all []error
	for _, ring := range j.rings {
		all = append(all, Problems(ring)...)
	}
	return all
}

func (j joined) Explain(ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		own, foreign := map[uint64]bool{}, map[uint64]bool{}
		for _, ring := range j.rings {
			if ring, ok := ring.(Explainer); ok {
				for note := range ring.Explain(ref) {
					switch {
					case j.rules.Kubelet:
					case note.Origin.foreignTo(j.namespace):
						note.leaveOut(foreign, own)
					default:
						note.leaveOut(own)
					}
					if !yield(note) {
						return
					}
				}
			}
		}
	}
}

// leaveOut makes n one that does not match if its credential is in one of seen, and
// notes it in the first.
func (n *Note) leaveOut(seen ...map[uint64]bool) {
	switch {
	case !n.Matched || n.Print == 0:
	case slices.ContainsFunc(seen, func(s map[uint64]bool) bool { return s[n.Print] }):
		n.Matched, n.Why = false, string(repeated)
	default:
		seen[0][n.Print] = true
	}
}

// Problems returns what ring had to leave out and warnings about what it did not, as
// [Config.Problems] and [Secrets.Problems] do; for joined keyrings those of all of
// them. Nil for a keyring that has no such method, such as a nil one.
func Problems(ring Keyring) []error {
	if ring, ok := ring.(interface{ Problems() []error }); ok {
		return ring.Problems()
	}
	return nil
}

// lookup is ring.Lookup, and empty for a nil ring.
func lookup(ctx context.Context, ring Keyring, ref reference.Reference) iter.Seq2[Credential, error] {
	if ring == nil {
		return func(func(Credential, error) bool) {}
	}
	return ring.Lookup(ctx, ref)
}
