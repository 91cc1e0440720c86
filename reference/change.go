package reference

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// WithTag returns r with another tag. A digest stays, and still decides which image is
// pulled. The error is a *[ParseError].
func (r Reference) WithTag(tag string) (Reference, error) {
	if err := r.check("tag", tag); err != nil {
		return Reference{}, err
	}
	if err := checkTag("tag", tag); err != nil {
		return Reference{}, err
	}
	r.tag = tag
	return r, nil
}

// WithoutTag returns r with its digest and without its tag, as containerd's CRI changes a
// name that has both. If r has no digest, WithoutTag returns r unchanged, because a name
// with neither tag nor digest cannot be pulled.
func (r Reference) WithoutTag() Reference {
	if r.digest != "" {
		r.tag = ""
	}
	return r
}

// WithoutDigest returns r with its tag and without its digest, to ask what the tag points
// to today. If r has no tag, WithoutDigest returns r unchanged, because a name with neither
// tag nor digest would mean the tag latest, which was not written.
func (r Reference) WithoutDigest() Reference {
	if r.tag != "" {
		r.digest = ""
	}
	return r
}

// WithDigest returns r pinned to a digest. The tag stays. The error is a *[ParseError].
func (r Reference) WithDigest(d digest.Digest) (Reference, error) {
	if err := r.check("digest", string(d)); err != nil {
		return Reference{}, err
	}
	if why := checkDigest(string(d)); why != "" {
		return Reference{}, newPieceError("digest", string(d), 0, PartDigest, why)
	}
	r.digest = d
	return r, nil
}

// WithRegistry returns the image of the same repository on another registry, a mirror for
// example. host is the text before the first slash of a name, and must look like a
// registry: localhost, or a host with a dot, a port or an upper-case letter. library/ stays
// in the repository when the name leaves Docker Hub, and is added to a single component
// when the name moves to Docker Hub. The error is a *[ParseError].
func (r Reference) WithRegistry(host string) (Reference, error) {
	if err := r.check("registry", host); err != nil {
		return Reference{}, err
	}
	if err := checkRegistry("registry", host); err != nil {
		return Reference{}, err
	}
	return Parse(host + strings.TrimPrefix(r.String(), r.Registry()))
}

// WithArch returns the name of an image for one architecture in the old form that the
// Kubernetes documentation calls -$(ARCH): pause becomes pause-amd64. Registries today
// serve an index under the plain name, and also the names with a suffix, for old
// configurations. arch is spelled as in GOARCH, in lower-case letters and digits. The error
// is a *[ParseError]; for a name with a digest it wraps [ErrPinned].
func (r Reference) WithArch(arch string) (Reference, error) {
	if err := r.check("architecture", arch); err != nil {
		return Reference{}, err
	}
	if r.digest != "" {
		return Reference{}, newParseError(r.String(), len(r.String())-len(r.digest), PartDigest, ErrPinned)
	}
	for i := range len(arch) {
		if class[arch[i]]&lower == 0 {
			return Reference{}, newPieceError("architecture", arch, i, PartRepository, ErrCharacter)
		}
	}
	if arch == "" {
		return Reference{}, newPieceError("architecture", arch, 0, PartRepository, ErrMissing)
	}
	return Parse(r.Name() + "-" + arch + ":" + r.tag)
}

// check returns an error if r is the zero Reference, which has no parts to change.
func (r Reference) check(what, text string) error {
	if r.IsZero() {
		return newPieceError("empty image name with "+what, text, 0, PartRepository, ErrMissing)
	}
	return nil
}

// checkRegistry returns an error if s, put before the first slash of a name, would not be
// read as a registry.
func checkRegistry(what, s string) error {
	if s == "" {
		return newPieceError(what, s, 0, PartRegistry, ErrMissing)
	}
	if i, why := scanRegistry(s); why != "" {
		return newPieceError(what, s, i, PartRegistry, why)
	}
	if !looksLikeRegistry(s) {
		return newPieceError(what, s, 0, PartRegistry, ErrNotHost)
	}
	return nil
}

func checkRepository(what, s string) error {
	i, why := scanRepository(s, 0)
	if why == "" && i < len(s) {
		why = ErrCharacter
	}
	if why != "" {
		return newPieceError(what, s, i, PartRepository, why)
	}
	return nil
}

func checkTag(what, s string) error {
	i, why := scanTag(s, 0)
	if why == "" && i < len(s) {
		why = ErrCharacter
	}
	if why != "" {
		return newPieceError(what, s, i, PartTag, why)
	}
	return nil
}
