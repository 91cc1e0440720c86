package reference

import (
	"cmp"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	hub       = "docker.io"       // the registry of names without one
	legacyHub = "index.docker.io" // an old name of the same registry
	library   = "library/"        // where Docker Hub keeps names of one component
	latest    = "latest"          // the tag of names with neither tag nor digest
)

// A Reference names a container image. It is immutable and comparable: two
// names are one image exactly when their References are equal with ==, and a
// Reference can be a map key.
//
// Every Reference except the zero one has a registry, a repository, and a tag or a
// digest or both. The zero Reference is not a valid name: its methods return "".
//
// The parts are substrings of the text that was parsed and keep it in memory;
// [Reference.Clone] copies them.
type Reference struct {
	// registry is "" for Docker Hub. A repository of one component on Docker Hub is kept
	// without library/. So every field is a piece of the input, and each image has one
	// form.
	registry, repository, tag string
	digest                    digest.Digest
}

// IsZero reports whether r is the zero Reference, which names nothing.
func (r Reference) IsZero() bool { return r.repository == "" }

// Registry returns the host that serves the image, with its port if one was
// written: "docker.io", "fictional.registry.example:10443". Case is kept.
func (r Reference) Registry() string {
	if r.registry == "" && !r.IsZero() {
		return hub
	}
	return r.registry
}

// Repository returns the path below the registry, "library/pause" for pause.
func (r Reference) Repository() string { return r.below() + r.repository }

// below returns the text between registry and repository, "library/" or "".
func (r Reference) below() string {
	if r.registry == "" && !r.IsZero() && strings.IndexByte(r.repository, '/') < 0 {
		return library
	}
	return ""
}

// Name returns registry and repository, joined by a slash. Credentials are looked up by
// this name.
func (r Reference) Name() string {
	if r.IsZero() {
		return ""
	}
	return r.Registry() + "/" + r.below() + r.repository
}

// Tag returns the tag, "latest" where it was filled in. It is "" for a name with a
// digest and no tag.
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest, or "" if the name has none. A digest that is not "" is valid:
// its methods do not panic, and its Verifier works in every program, because this package
// links the hashes.
func (r Reference) Digest() digest.Digest { return r.digest }

// String returns the canonical name, with registry and tag written out:
// "docker.io/library/pause:latest". Parse(r.String()) == r.
func (r Reference) String() string {
	if r.IsZero() {
		return ""
	}
	colon, at := r.marks()
	return r.Registry() + "/" + r.below() + r.repository + colon + r.tag + at + string(r.digest)
}

// marks returns the characters before tag and digest, "" for a part that is missing.
func (r Reference) marks() (colon, at string) {
	if r.tag != "" {
		colon = ":"
	}
	if r.digest != "" {
		at = "@"
	}
	return colon, at
}

// Familiar returns the short name, without docker.io/ and library/ but with the tag:
// "pause:latest". Parse(r.Familiar()) == r.
//
// It is distribution/reference's FamiliarString, with one difference: docker.io/ stays
// where the rest would name another registry, because docker.io/localhost/foo is not
// localhost/foo.
func (r Reference) Familiar() string {
	if r.IsZero() {
		return ""
	}
	registry, slash := r.Registry(), "/"
	if r.registry == "" && registryEnd(r.repository) < 0 {
		registry, slash = "", ""
	}
	colon, at := r.marks()
	return registry + slash + r.repository + colon + r.tag + at + string(r.digest)
}

// Clone returns an equal Reference that shares no memory with the text that r
// was parsed from. It allocates once.
func (r Reference) Clone() Reference {
	s := r.registry + r.repository + r.tag + string(r.digest)
	a := len(r.registry)
	b := a + len(r.repository)
	c := b + len(r.tag)
	return Reference{s[:a], s[a:b], s[b:c], digest.Digest(s[c:])}
}

// AppendText appends r.String() to b. It never fails.
func (r Reference) AppendText(b []byte) ([]byte, error) {
	return append(b, r.String()...), nil
}

// MarshalText returns r.String(), which is empty for the zero Reference. It
// never fails.
func (r Reference) MarshalText() ([]byte, error) {
	return r.AppendText(nil)
}

// UnmarshalText parses text as [Parse] does, so that names in JSON and
// configuration files may be written short. Empty text gives the zero
// Reference. On error r stays as it was.
func (r *Reference) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Reference{}
		return nil
	}
	s, err := Parse(string(text))
	if err != nil {
		return err
	}
	*r = s
	return nil
}

// Compare returns -1, 0 or +1 for slices.SortFunc. The order is by registry, repository,
// tag and digest, byte by byte; the zero Reference is first. The result is 0 exactly for
// equal References.
func (r Reference) Compare(other Reference) int {
	return cmp.Or(
		strings.Compare(r.Registry(), other.Registry()),
		r.compareRepository(other),
		strings.Compare(r.tag, other.tag),
		strings.Compare(string(r.digest), string(other.digest)),
	)
}

// compareRepository compares the results of Repository of two images on one registry,
// without allocating them.
func (r Reference) compareRepository(other Reference) int {
	a, b := r.below(), other.below()
	switch {
	case a == b:
		return strings.Compare(r.repository, other.repository)
	case a == "":
		return -other.compareRepository(r)
	}
	// Only r is below library/.
	n := min(len(a), len(other.repository))
	if c := strings.Compare(a, other.repository[:n]); c != 0 {
		return c
	}
	return strings.Compare(r.repository, other.repository[n:])
}
