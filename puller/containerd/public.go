package containerd

import (
	"context"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// ErrPrivate says that an image must not be put into containerd, because a client needs a
// credential to pull it, and every Pod of the node could use it in containerd without one.
var ErrPrivate = errors.New("only a credential opens this image, and every Pod of the node could use it in containerd, because the kubelet takes it for a preloaded one")

// OnlyPublic returns a check for puller.Config.Admission that accepts only public images. An
// image is public if the registry itself shows its manifest, and its index if it has one,
// without a credential. The check refuses other images with ErrPrivate. About a public image it
// asks next, if next is not nil.
//
// The check asks the registry by HEAD, which Docker Hub does not count as a pull. If the answer
// does not have the media type and the size of the document, such as the login page of a proxy,
// the check asks by GET. A registry that answers each HEAD as if the image were public is
// believed. A public image is accepted even if the pull has a credential for it. An image that
// only a mirror, a client certificate or a header of hosts.toml opens is refused. If the registry
// cannot be asked, the check cannot decide, and the image is not put into containerd.
//
// The Puller remembers the answer for the digest of an image, also in puller.Config.Records.
// So an image that was public is still accepted after its repository has become private.
//
// The Puller asks the check about images that are already in containerd too, unless
// puller.Config.TrustPresent is set.
func OnlyPublic(next content.Check) content.Check { return &onlyPublic{next} }

type onlyPublic struct{ next content.Check }

// publicFingerprint is the fingerprint of the rule by which OnlyPublic decides.
const publicFingerprint = "pullkit: shown without a credential"

// Admit implements content.Check.
func (o *onlyPublic) Admit(ctx context.Context, image content.Admission) (by string, err error) {
	if err := isPublic(ctx, image, image.Top); err != nil {
		return "", err
	}
	if image.Descriptor.Digest != image.Top.Digest {
		if err := isPublic(ctx, image, image.Descriptor); err != nil {
			return "", err
		}
	}
	if o.next == nil {
		return "the registry shows it without a credential", nil
	}
	return o.next.Admit(ctx, image)
}

// isPublic returns nil if the registry shows a document of the image without a credential.
func isPublic(ctx context.Context, image content.Admission, desc ocispec.Descriptor) error {
	ref, err := image.Repo.Ref.WithDigest(desc.Digest)
	if err != nil {
		return fmt.Errorf("cannot find out whether the image is public: %w", &content.Error{Reason: content.ErrBadDigest, Err: err})
	}
	repo := content.Repo{Ref: ref, Cred: credentials.Credential{}}
	doc, err := image.Source.Manifest(ctx, repo, desc.Digest)
	if err == nil && doc.Body == nil && (doc.Desc.MediaType != desc.MediaType || doc.Desc.Size != desc.Size) {
		doc, err = image.Source.Manifest(ctx, repo, "") // the answer to the HEAD may be that of another page
	}
	switch content.ReasonOf(err) {
	case content.ErrUnauthorized, content.ErrDenied, content.ErrNotFound:
		return fmt.Errorf("%w: without a credential: %v", ErrPrivate, err) // err is not wrapped: the check has decided
	}
	if err != nil {
		return fmt.Errorf("cannot find out whether the image is public: %w", err)
	}
	if p := doc.Provenance; !p.Registry || !p.Anonymous || doc.Desc.Digest != desc.Digest {
		return fmt.Errorf("%w: the registry itself has not shown it without a credential", ErrPrivate)
	}
	return nil
}

// Fingerprint implements content.Check.
func (o *onlyPublic) Fingerprint() string {
	if o.next == nil {
		return publicFingerprint
	}
	if next := o.next.Fingerprint(); next != "" {
		return publicFingerprint + "; " + next
	}
	return ""
}

// Explain implements content.CheckExplainer.
func (o *onlyPublic) Explain(ref reference.Reference) string {
	text := "only if the registry shows it without a credential"
	if next, ok := o.next.(content.CheckExplainer); ok {
		text += "; then " + next.Explain(ref)
	}
	return text
}
