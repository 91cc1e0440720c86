// Package oras hands the credentials of pullkit to oras-go.
//
// [Credential] is an auth.CredentialFunc. oras-go asks it for a host, so it is
// made for one image: a function of the host alone could not tell apart two
// teams' paths on one registry. It gives one credential; the rest of the
// candidates, a second pull secret for example, is lost.
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

// Credential returns the first of ring's candidates for ref, and for ref's
// registry only: other hosts, those of mirrors and redirects, get none.
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

// sameHost knows that oras-go reaches docker.io under its other name.
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

// Each calls try with ref's repository, logged in with one candidate after the
// other, until one call succeeds.
func Each[T any](ctx context.Context, ring credentials.Keyring, ref reference.Reference, try func(context.Context, *remote.Repository) (T, error)) (T, error) {
	return credentials.Each(ctx, ring, ref, func(ctx context.Context, c credentials.Credential) (T, error) {
		var none T
		repo, err := remote.NewRepository(ref.Name())
		if err != nil {
			return none, credentials.Stop(err)
		}
		repo.Client = &auth.Client{
			Client: retry.DefaultClient,
			Cache:  auth.NewCache(), // a token belongs to one credential: no cache is shared
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

// judge tells credentials.Each the status that the registry answered, and whether
// another credential may help: a registry says 404 where it does not want to say 403.
func judge(err error) error {
	status := 0
	var answer *errcode.ErrorResponse
	switch {
	case errors.As(err, &answer):
		status = answer.StatusCode
	case errors.Is(err, errdef.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, auth.ErrBasicCredentialNotFound): // a challenge was not met
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
