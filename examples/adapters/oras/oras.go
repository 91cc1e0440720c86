// Package oras gives the credentials of pullkit to oras-go.
//
// [Credential] returns an auth.CredentialFunc. oras-go gives that function only a host. From
// the host the function could not distinguish two teams' paths on one registry, so it is made
// for one image. It returns one credential. The other candidates, a second pull secret for
// example, are lost.
//
// [Each] tries all candidates: it calls a function with a repository for each candidate
// in turn, by credentials.Each, until one call succeeds.
package oras

import (
	"context"
	"errors"
	"net/http"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// Credential returns a function that returns the first of ring's candidates for ref. Only
// ref's registry gets the credential; the hosts of mirrors and redirects get none.
func Credential(ring credentials.Keyring, ref reference.Reference) auth.CredentialFunc {
	return func(ctx context.Context, hostport string) (auth.Credential, error) {
		if !sameHost(hostport, ref.Registry()) {
			return auth.EmptyCredential, nil
		}
		var failed []error
		for cred, err := range ring.Lookup(ctx, ref) {
			if err == nil {
				return Convert(cred), nil
			}
			failed = append(failed, err)
		}
		return auth.EmptyCredential, errors.Join(failed...)
	}
}

// sameHost reports whether hostport is a host of registry. oras-go connects to docker.io under
// another name.
func sameHost(hostport, registry string) bool {
	return hostport == registry || registry == "docker.io" && hostport == "registry-1.docker.io"
}

// Convert returns one credential in oras-go's form.
func Convert(c credentials.Credential) auth.Credential {
	return auth.Credential{
		Username: c.Username, Password: c.Password.Reveal(),
		RefreshToken: c.IdentityToken.Reveal(), AccessToken: c.RegistryToken.Reveal(),
	}
}

// Each calls try with ref's repository and one candidate after the other, until one call
// succeeds.
func Each[T any](ctx context.Context, ring credentials.Keyring, ref reference.Reference, try func(context.Context, *remote.Repository) (T, error)) (T, error) {
	return credentials.Each(ctx, ring, ref, func(ctx context.Context, c credentials.Credential) (T, error) {
		var none T
		repo, err := remote.NewRepository(ref.Name())
		if err != nil {
			return none, credentials.Stop(err)
		}
		repo.Client = &auth.Client{
			Client: retry.DefaultClient,
			Cache:  auth.NewCache(), // each credential has its own cache, because a token belongs to one credential
			Credential: func(_ context.Context, hostport string) (auth.Credential, error) {
				if !sameHost(hostport, ref.Registry()) {
					return auth.EmptyCredential, nil
				}
				return Convert(c), nil
			},
		}
		got, err := try(ctx, repo)
		if err != nil {
			return none, judge(err)
		}
		return got, nil
	})
}

// judge adds to err the registry's status, for credentials.Each, and marks err with
// credentials.Stop if no other credential can help. After 404 another credential can help,
// because some registries answer 404 in place of 403.
func judge(err error) error {
	status := 0
	var answer *errcode.ErrorResponse
	switch {
	case errors.As(err, &answer):
		status = answer.StatusCode
	case errors.Is(err, errdef.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, auth.ErrBasicCredentialNotFound): // oras-go has no credential for the registry's challenge
		status = http.StatusUnauthorized
	}
	if status != 0 {
		err = credentials.WithStatus(err, status)
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return err
	}
	return credentials.Stop(err)
}
