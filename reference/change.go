package reference

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// WithTag returns r with another tag. A digest stays, and goes on saying which
// image it is.
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

// WithoutTag returns r pinned by its digest alone, which is what containerd's
// CRI makes of a name with both. Without a digest there would be nothing left to
// ask for, and r is returned as it is.
func (r Reference) WithoutTag() Reference {
	if r.digest != "" {
		r.tag = ""
	}
	return r
}

// WithoutDigest returns r as its tag alone names it, to ask what the tag points to
// today. Without a tag r is returned as it is: what is left would mean latest, which
// nobody wrote.
func (r Reference) WithoutDigest() Reference {
	if r.tag != "" {
		r.digest = ""
	}
	return r
}

// WithDigest returns r pinned to a digest. The tag stays.
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

// WithRegistry returns the image of the same repository on another registry, a
// mirror for example. host is what stands before the first slash of a name, and
// must look like it: localhost, or with a dot, a port or an upper-case letter.
// library/ stays in the repository when the name leaves Docker Hub, and is added
// to a single component that comes there.
func (r Reference) WithRegistry(host string) (Reference, error) {
	if err := r.check("registry", host); err != nil {
		return Reference{}, err
	}
	if err := checkRegistry("registry", host); err != nil {
		return Reference{}, err
	}
	return Parse(host + strings.TrimPrefix(r.String(), r.Registry()))
}

// WithArch returns the name of an image for one architecture in the old form
// that the Kubernetes documentation calls -$(ARCH): pause becomes pause-amd64.
// Registries of today serve an index under the plain name, and the suffixed
// names beside it for old configurations. arch is as in GOARCH, of lower-case
// letters and digits. A name with a digest is refused with [ErrPinned].
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

// check refuses to make a name out of the zero Reference.
func (r Reference) check(what, text string) error {
	if r.IsZero() {
		return newPieceError(what+" of no image", text, 0, PartRepository, ErrMissing)
	}
	return nil
}

// checkRegistry reports whether s cannot stand before the first slash of a name.
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
