package puller

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"
	"sync"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// mirrorKeys are the request's and the node's credentials for the mirrors of the image's
// registry. They are a credentials.Keyring for the Runtime, which answers for the names that
// the image has at these mirrors and for no other name: two requests share a pull only if
// their credentials for these names are equal. A nil *mirrorKeys has no credential.
type mirrorKeys struct {
	candidates *candidates
	ref        reference.Reference   // at the registry
	names      []reference.Reference // at the mirrors

	mu      sync.Mutex
	yielded map[credentials.Credential]candidate // by what they authenticate with
}

// mirrorKeys returns the credentials of a task for mirrors. It is nil if the request and the
// node have none, or if the Runtime asks no mirror with them.
func (c *Config) mirrorKeys(ctx context.Context, t *task) *mirrorKeys {
	namer, ok := c.Runtime.(content.MirrorNamer)
	if !ok || t.candidates.pod == nil && t.candidates.node == nil {
		return nil
	}
	names, err := namer.MirrorNames(ctx, t.ref)
	if err != nil {
		c.Logger.DebugContext(ctx, "the mirrors are not known", "image", t.ref.String(), "err", err) // a pull fails with this error
		return nil
	}
	if len(names) == 0 {
		return nil
	}
	return &mirrorKeys{candidates: t.candidates, ref: t.ref, names: names}
}

// keyring returns m for a Spec. It is a credentials.Fingerprinter if the fingerprint is known.
func (m *mirrorKeys) keyring() credentials.Keyring {
	switch {
	case m == nil:
		return nil
	case m.candidates.fingerprint(m.names[0]) == nil:
		return m
	}
	return mirrorPrints{m}
}

// Lookup implements credentials.Keyring.
func (m *mirrorKeys) Lookup(ctx context.Context, name reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		m.all(ctx, name, func(found candidate) bool {
			m.note(found)
			return yield(found.cred, found.err)
		})
	}
}

// all yields the candidates for a name at a mirror. It leaves out what the keyrings yield for
// the registry too, unless an entry of theirs has the mirror's name: credentials.Static and
// keyrings like it yield the same for every name, and the registry's credential is not for a
// mirror.
func (m *mirrorKeys) all(ctx context.Context, name reference.Reference, yield func(candidate) bool) {
	if !m.has(name) {
		return
	}
	ofRegistry := sync.OnceValue(func() (creds []credentials.Credential) {
		m.candidates.all(ctx, m.ref, func(found candidate) bool {
			if found.err == nil {
				creds = append(creds, found.cred)
			}
			return true
		})
		return creds
	})
	m.candidates.all(ctx, name, func(found candidate) bool {
		if found.err == nil && found.cred.Origin.Key == "" && slices.ContainsFunc(ofRegistry(), found.cred.Same) {
			return true
		}
		return yield(found)
	})
}

// ofPod yields the candidates of the request's keyring for a name at a mirror.
func (m *mirrorKeys) ofPod(ctx context.Context, name reference.Reference, yield func(credentials.Credential, error) bool) {
	pod := &mirrorKeys{candidates: m.candidates.ofPodOnly(), ref: m.ref, names: m.names}
	pod.all(ctx, name, func(found candidate) bool { return yield(found.cred, found.err) })
}

// has reports whether the image has the name at one of the mirrors. A tag or a digest does
// not matter.
func (m *mirrorKeys) has(name reference.Reference) bool {
	return slices.ContainsFunc(m.names, func(n reference.Reference) bool { return n.Name() == name.Name() })
}

func (m *mirrorKeys) note(found candidate) {
	if found.err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.yielded == nil {
		m.yielded = map[credentials.Credential]candidate{}
	}
	if key := bare(found.cred); m.yielded[key] == (candidate{}) {
		m.yielded[key] = found
	}
}

func bare(cred credentials.Credential) credentials.Credential {
	return credentials.Credential{Username: cred.Username, Password: cred.Password, IdentityToken: cred.IdentityToken, RegistryToken: cred.RegistryToken}
}

// opened returns the candidate with which the pull was let in: accepted, which the registry
// was asked with, or a mirror's. For a credential that a Source remembers from an earlier pull,
// the candidate is looked up. If it is not found, it counts as the Pod's, so that no other
// Pod may use the image because of it.
func (m *mirrorKeys) opened(ctx context.Context, o content.Opening, accepted candidate) candidate {
	switch {
	case o.Unconfirmed:
		return candidate{cred: accepted.cred, unconfirmed: true}
	case o.Mirror == "":
		return accepted
	case !o.OfRequest || o.Credential.Anonymous():
		return candidate{cred: o.Credential, mirror: o.Mirror}
	}
	found := candidate{ofPod: true, cred: o.Credential}
	if m != nil {
		m.mu.Lock()
		known, ok := m.yielded[bare(o.Credential)]
		m.mu.Unlock()
		if ok {
			found = known
		} else {
			found = m.find(ctx, o, found)
		}
	}
	found.mirror = o.Mirror
	return found
}

// find looks the credential of o up. If it is not there, find returns or.
func (m *mirrorKeys) find(ctx context.Context, o content.Opening, or candidate) (found candidate) {
	found = or
	for _, name := range m.names {
		if name.Name() != o.Mirror {
			continue
		}
		m.all(ctx, name, func(c candidate) bool {
			if c.err != nil || !c.cred.Same(o.Credential) {
				return true
			}
			found = c
			return false
		})
	}
	return found
}

// mirrorPrints are mirrorKeys whose fingerprint is known.
type mirrorPrints struct{ *mirrorKeys }

// Fingerprint implements credentials.Fingerprinter.
func (m mirrorPrints) Fingerprint(name reference.Reference) uint64 {
	f := m.candidates.fingerprint(name)
	if f == nil {
		return 0
	}
	return maphash.Comparable(processSeed(), *f)
}

var processSeed = sync.OnceValue(maphash.MakeSeed)

// fingerprint is candidates.fingerprint for the image and for its names at the mirrors.
func (t *task) fingerprint(m *mirrorKeys) *fingerprint {
	f := t.candidates.fingerprint(t.ref)
	if f == nil || m == nil {
		return f
	}
	ring, ok := m.keyring().(mirrorPrints)
	if !ok {
		return nil
	}
	var h maphash.Hash
	h.SetSeed(processSeed())
	for _, name := range m.names {
		maphash.WriteComparable(&h, name.Name())
		maphash.WriteComparable(&h, ring.Fingerprint(name))
	}
	f.mirrors = h.Sum64()
	return f
}
