package credentials

import (
	"context"
	"hash/maphash"
	"iter"

	"github.com/pullkit/pullkit/reference"
)

// A Static keyring yields its credentials, in order, for every image. It has no
// keys, so whoever chooses the image's name chooses the registry that is shown them:
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
	var h maphash.Hash
	h.SetSeed(processSeed())
	for _, c := range s {
		c.hash(&h)
	}
	return h.Sum64()
}

// Explain yields a matching note for each credential of s.
func (s Static) Explain(_ reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		for _, c := range s {
			c = c.labelled()
			if !yield(Note{Origin: c.Origin, Username: c.Username, Matched: true, Why: "given for every image", Print: c.print()}) {
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
