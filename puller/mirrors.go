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
// registry. They are the credentials.Keyring that the Runtime gets. It yields credentials
// only for the names that the image has at these mirrors, because two requests share a
// pull if their credentials for these names are equal. A nil *mirrorKeys has no
// credential.
type mirrorKeys struct {
	candidates *candidates
	ref        reference.Reference   // at the registry
	names      []reference.Reference // at the mirrors

	mu      sync.Mutex
	yielded map[credentials.Credential]candidate // by bare credential
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
		c.Logger.DebugContext(ctx, "the names at mirrors are not known", "image", t.ref.String(), "err", err) // a pull fails with this error
		return nil
	}
	if len(names) == 0 {
		return nil
	}
	return &mirrorKeys{candidates: t.candidates, ref: t.ref, names: names}
}

// keyring returns the Keyring for Spec.Mirrors; nil if m is nil. It is a
// credentials.Fingerprinter if the fingerprints of the keyrings are known.
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

// all yields the candidates for a name at a mirror. It leaves out a credential that the
// keyrings also yield for the registry, unless it is from an entry with the mirror's name.
// credentials.Static and similar keyrings yield the same credentials for every name, and a
// mirror must not get the registry's credential.
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

// has reports whether the image has the name at one of the mirrors. It does not compare
// tags and digests.
func (m *mirrorKeys) has(name reference.Reference) bool {
	return slices.ContainsFunc(m.names, func(n reference.Reference) bool { return n.Name() == name.Name() })
}

// note remembers a yielded candidate for opened. Of equal credentials the first one counts.
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

// bare returns the credential without its Origin.
func bare(cred credentials.Credential) credentials.Credential {
	return credentials.Credential{Username: cred.Username, Password: cred.Password, IdentityToken: cred.IdentityToken, RegistryToken: cred.RegistryToken}
}

// opened returns the candidate that opened the image: accepted, with which the registry
// was asked, or the candidate that a mirror accepted. A Source can use a credential that
// it remembers from an earlier pull. Then opened looks the candidate up in the keyrings.
// If they do not have it, the credential counts as the Pod's, so that it lets no other Pod
// use the image.
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

// find returns the candidate with the credential of o, or fallback if the keyrings do not
// have it.
func (m *mirrorKeys) find(ctx context.Context, o content.Opening, fallback candidate) (found candidate) {
	found = fallback
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

// fingerprint returns the fingerprint of the task's candidates, for the image and for its
// names at the mirrors. It is nil where candidates.fingerprint is nil.
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
