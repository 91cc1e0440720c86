// Package containerd gives the credentials of pullkit to containerd's resolver.
//
// [Credentials] returns a function of the type that docker.WithAuthCreds takes (in
// github.com/containerd/containerd/v2/core/remotes/docker). So this module does not import
// containerd's module:
//
//	authorizer := docker.NewDockerAuthorizer(docker.WithAuthCreds(containerd.Credentials(ctx, ring, ref)))
//
// The resolver gives the function only a host. From the host the function could not
// distinguish two teams' paths on one registry, so it is made for one image. It returns the
// first candidate for the image that is not a registry token, because the resolver cannot use
// registry tokens. All other candidates are lost.
//
// [Each] tries all candidates: it calls a function with an authorizer's function for
// each candidate in turn, by credentials.Each, until one call succeeds.
package containerd

import (
	"context"
	"errors"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// A Func returns the login for a host. With an empty username, secret is an identity token.
// If both are empty, the client is anonymous.
type Func = func(host string) (username, secret string, err error)

// Credentials returns a function that returns the first of ring's candidates for ref that
// the resolver can use. Only ref's registry gets the credential.
func Credentials(ctx context.Context, ring credentials.Keyring, ref reference.Reference) Func {
	return func(host string) (string, string, error) {
		if !sameHost(host, ref.Registry()) {
			return "", "", nil
		}
		var failed []error
		for cred, err := range ring.Lookup(ctx, ref) {
			if err != nil {
				failed = append(failed, err)
			} else if usable(cred) {
				return one(cred, ref)(host)
			}
		}
		return "", "", errors.Join(failed...)
	}
}

// Each calls try with a function for one candidate after the other, until one call
// succeeds. If no other credential can help, try marks its error with credentials.Stop.
// If the error has an HTTP status, try marks it with credentials.WithStatus, which
// distinguishes a missing image from a refused login.
func Each[T any](ctx context.Context, ring credentials.Keyring, ref reference.Reference, try func(context.Context, Func) (T, error)) (T, error) {
	return credentials.Each(ctx, ring, ref, func(ctx context.Context, c credentials.Credential) (T, error) {
		if !usable(c) {
			var none T
			return none, errRegistryToken
		}
		return try(ctx, one(c, ref))
	})
}

var errRegistryToken = errors.New("containerd's resolver does not accept a registry token")

func usable(c credentials.Credential) bool {
	return c.Anonymous() || c.Username != "" || !c.Password.IsZero() || !c.IdentityToken.IsZero()
}

// one returns a Func that returns c for ref's registry, and no login for other hosts.
func one(c credentials.Credential, ref reference.Reference) Func {
	return func(host string) (string, string, error) {
		switch {
		case !sameHost(host, ref.Registry()):
			return "", "", nil
		case !c.IdentityToken.IsZero():
			return "", c.IdentityToken.Reveal(), nil
		}
		return c.Username, c.Password.Reveal(), nil
	}
}

// sameHost reports whether host is a host of registry. containerd connects to docker.io under
// another name.
func sameHost(host, registry string) bool {
	return host == registry || registry == "docker.io" && host == "registry-1.docker.io"
}
