// Package ggcr gives the credentials of pullkit to go-containerregistry.
//
// [Keychain] returns an authn.Keychain, for code that needs one (crane, ko, cosign). Such a
// keychain returns one credential for an image, and the other candidates are lost. If a Pod
// has two pull secrets for a registry and the first is stale, the pull fails, although the
// second would work.
//
// [Image] tries all candidates: it asks for the image with each candidate in turn, by
// credentials.Each, and returns the image with the credential that works.
package ggcr

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// Keychain returns ring as a keychain. It resolves a repository to the first candidate, or
// to anonymous if there is no candidate. A source that cannot answer is passed over, but if
// no other source has a candidate, its error is returned. A registry without a repository,
// as for a catalog, resolves to anonymous, because keys are for images.
func Keychain(ring credentials.Keyring) authn.Keychain { return keychain{ring} }

type keychain struct{ ring credentials.Keyring }

func (k keychain) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), r)
}

// ResolveContext is called by go-containerregistry if it has a context.
func (k keychain) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	if r.String() == r.RegistryStr() {
		return authn.Anonymous, nil
	}
	ref, err := reference.Parse(r.String())
	if err != nil {
		return nil, err
	}
	var failed []error
	for cred, err := range k.ring.Lookup(ctx, ref) {
		if err == nil {
			return Authenticator(cred), nil
		}
		failed = append(failed, err)
	}
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	return authn.Anonymous, nil
}

// Authenticator returns one credential in go-containerregistry's form.
func Authenticator(c credentials.Credential) authn.Authenticator {
	if c.Anonymous() {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: c.Username, Password: c.Password.Reveal(),
		IdentityToken: c.IdentityToken.Reveal(), RegistryToken: c.RegistryToken.Reveal(),
	})
}

// Image calls remote.Image with each of ring's candidates in turn, until one may read the
// manifest. The image keeps that credential for its layers. options must not include
// authentication.
func Image(ctx context.Context, ring credentials.Keyring, image name.Reference, options ...remote.Option) (v1.Image, error) {
	ref, err := reference.Parse(image.Name())
	if err != nil {
		return nil, err
	}
	return credentials.Each(ctx, ring, ref, func(ctx context.Context, c credentials.Credential) (v1.Image, error) {
		all := append([]remote.Option{remote.WithContext(ctx), remote.WithAuth(Authenticator(c))}, options...)
		img, err := remote.Image(image, all...)
		if err != nil {
			return nil, judge(err)
		}
		return img, nil
	})
}

// judge adds to err the registry's status, for credentials.Each, and marks err with
// credentials.Stop if no other credential can help. After 404 another credential can help,
// because some registries answer 404 in place of 403.
func judge(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return credentials.Stop(err)
	}
	err = credentials.WithStatus(err, answer.StatusCode)
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return err
	}
	return credentials.Stop(err)
}
