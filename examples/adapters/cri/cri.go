// Package cri gives the credentials of pullkit to a CRI runtime.
//
// A PullImage request of the Container Runtime Interface carries one AuthConfig, made by
// [AuthConfig]. The request has no place for other candidates, so the kubelet makes one
// request for each candidate. [PullImage] does the same, by credentials.Each.
//
// A runtime does not reliably report why a pull failed: containerd answers Unknown for a
// wrong password, a missing image and a refused connection alike. So PullImage tries the
// next candidate after each error, except ResourceExhausted and the end of the caller's
// context.
package cri

import (
	"context"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// AuthConfig returns a credential in the form of the CRI, or nil for the anonymous
// credential. ServerAddress stays empty: containerd ignores a credential whose address has
// no scheme, or is that of a mirror. A credential without an address is for the image's
// registry.
func AuthConfig(c credentials.Credential) *runtime.AuthConfig {
	if c.Anonymous() {
		return nil
	}
	return &runtime.AuthConfig{
		Username: c.Username, Password: c.Password.Reveal(),
		IdentityToken: c.IdentityToken.Reveal(), RegistryToken: c.RegistryToken.Reveal(),
	}
}

// PullImage lets the runtime pull request's image with each of ring's candidates in turn.
// It ignores request's Auth and does not change request.
func PullImage(ctx context.Context, client runtime.ImageServiceClient, ring credentials.Keyring, request *runtime.PullImageRequest) (*runtime.PullImageResponse, error) {
	ref, err := reference.Parse(request.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	return credentials.Each(ctx, ring, ref, func(ctx context.Context, c credentials.Credential) (*runtime.PullImageResponse, error) {
		one := &runtime.PullImageRequest{Image: request.GetImage(), SandboxConfig: request.GetSandboxConfig(), Auth: AuthConfig(c)}
		response, err := client.PullImage(ctx, one)
		if status.Code(err) == codes.ResourceExhausted {
			return nil, credentials.Stop(err)
		}
		return response, err
	})
}
