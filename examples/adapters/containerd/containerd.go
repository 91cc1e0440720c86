// Package containerd hands the credentials of pullkit to containerd's resolver.
//
// [Credentials] has the shape of the function that docker.WithAuthCreds takes (in
// github.com/containerd/containerd/v2/core/remotes/docker), so this module does
// not import the daemon's:
//
//	authorizer := docker.NewDockerAuthorizer(docker.WithAuthCreds(containerd.Credentials(ctx, ring, ref)))
//
// The resolver asks for a host, so the function is made for one image: a function of
// the host alone could not tell apart two teams' paths on one registry. The other
// candidates are lost, and so are registry tokens, for which the resolver has no room.
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

// A Func returns the login for a host. An empty user name with a secret is an
// identity token; both empty is anonymous.
type Func = func(host string) (username, secret string, err error)

// Credentials returns the first of ring's candidates for ref that the resolver
// can use, and for ref's registry only: other hosts get none.
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

var errRegistryToken = errors.New("containerd's resolver takes no registry token")

func usable(c credentials.Credential) bool {
	return c.Anonymous() || c.Username != "" || !c.Password.IsZero() || !c.IdentityToken.IsZero()
}

// one returns one credential for ref's registry.
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

// sameHost knows that containerd reaches docker.io under its other name.
func sameHost(host, registry string) bool {
	return host == registry || registry == "docker.io" && host == "registry-1.docker.io"
}
