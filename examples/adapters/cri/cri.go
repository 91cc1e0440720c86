// Package cri hands the credentials of pullkit to a CRI runtime.
//
// A PullImage request of the Container Runtime Interface carries one AuthConfig, made
// by [AuthConfig]. It has no room for the other candidates, so the kubelet makes one
// request for each candidate. [PullImage] does the same, by credentials.Each.
//
// A runtime does not reliably report why a pull failed: containerd answers Unknown for
// a wrong password, a missing image and a refused connection alike. So all errors move
// on to the next candidate but those of the caller's own end and ResourceExhausted.
package cri

import (
	"context"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// AuthConfig returns a credential in the form of the CRI; nil for the anonymous
// one. ServerAddress stays empty: containerd drops a credential whose address has
// no scheme or is that of a mirror's host, and takes one without for the image's.
func AuthConfig(c credentials.Credential) *runtime.AuthConfig {
	if c.Anonymous() {
		return nil
	}
	return &runtime.AuthConfig{
		Username: c.Username, Password: c.Password.Reveal(),
		IdentityToken: c.IdentityToken.Reveal(), RegistryToken: c.RegistryToken.Reveal(),
	}
}

// PullImage has the runtime pull request's image with each of ring's candidates
// in turn. request's own Auth is not used, and request is not changed.
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
