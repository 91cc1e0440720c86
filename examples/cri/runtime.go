// Package cri is a puller.Runtime over the socket of a container runtime (containerd,
// CRI-O). Package puller does policy, credentials, back-off and verification; the container
// runtime does the transfer.
//
//	rt := cri.New(conn)
//	p, err := puller.New(puller.Config{Runtime: rt, Keyring: node})
//
// CRI has limits: it reports no progress, the runtime pulls only for its own platform,
// and its errors seldom have a reason (containerd answers Unknown for a wrong password,
// a missing image and a refused connection).
package cri

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A Runtime asks a container runtime for images.
type Runtime struct {
	images runtimeapi.ImageServiceClient
	host   ocispec.Platform
}

// New returns a Runtime that sends its requests over conn. The caller closes conn.
func New(conn grpc.ClientConnInterface) *Runtime {
	return &Runtime{runtimeapi.NewImageServiceClient(conn), index.Host()}
}

// Status implements puller.Runtime.
func (r *Runtime) Status(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	if err := r.check(spec); err != nil {
		return puller.Image{}, err
	}
	resp, err := r.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: imageSpec(spec)})
	if err != nil {
		return puller.Image{}, classify(err)
	}
	if resp.GetImage().GetId() == "" {
		return puller.Image{}, fmt.Errorf("image %s: %w", spec.Written, fs.ErrNotExist)
	}
	return r.image(spec, resp.GetImage()), nil
}

// Pull implements puller.Runtime.
func (r *Runtime) Pull(ctx context.Context, spec puller.Spec) (puller.Image, error) {
	if err := r.check(spec); err != nil {
		return puller.Image{}, err
	}
	_, err := r.images.PullImage(ctx, &runtimeapi.PullImageRequest{Image: imageSpec(spec), Auth: auth(spec.Credential)})
	if err != nil {
		return puller.Image{}, classify(err)
	}
	return r.Status(ctx, spec)
}

// check refuses platforms other than the runtime's own, because a CRI request cannot name a
// platform.
func (r *Runtime) check(spec puller.Spec) error {
	want, host := index.Normalize(spec.Platform), index.Normalize(r.host)
	if want.OS == host.OS && want.Architecture == host.Architecture {
		return nil
	}
	return credentials.Stop(fmt.Errorf("CRI pulls only for %s, not for %s",
		index.FormatPlatform(host), index.FormatPlatform(want)))
}

func imageSpec(spec puller.Spec) *runtimeapi.ImageSpec {
	return &runtimeapi.ImageSpec{Image: spec.Written, UserSpecifiedImage: spec.Written, RuntimeHandler: spec.RuntimeHandler}
}

// auth returns a credential in the form of the CRI. ServerAddress stays empty, because
// containerd ignores a credential whose address has no scheme. A credential without an
// address is for the registry of the image.
func auth(c credentials.Credential) *runtimeapi.AuthConfig {
	if c.Anonymous() {
		return nil
	}
	return &runtimeapi.AuthConfig{
		Username:      c.Username,
		Password:      c.Password.Reveal(),
		IdentityToken: c.IdentityToken.Reveal(),
		RegistryToken: c.RegistryToken.Reveal(),
	}
}

func (r *Runtime) image(spec puller.Spec, img *runtimeapi.Image) puller.Image {
	return puller.Image{
		Ref:      spec.Ref,
		ID:       img.GetId(), // the digest of the config
		Digest:   digestOf(spec, img.GetRepoDigests()),
		Platform: r.host,
		Size:     int64(img.GetSize()),
	}
}

// digestOf returns the digest that the name points to. A runtime may list two digests, of the
// index and of the manifest, and does not say which is which. Then digestOf returns "".
func digestOf(spec puller.Spec, repoDigests []string) digest.Digest {
	if d := spec.Ref.Digest(); d != "" {
		return d
	}
	var found digest.Digest
	for _, text := range repoDigests {
		name, d, ok := strings.Cut(text, "@")
		if !ok || name != spec.Ref.Name() || digest.Digest(d).Validate() != nil {
			continue
		}
		if found != "" && found != digest.Digest(d) {
			return ""
		}
		found = digest.Digest(d)
	}
	return found
}

// classify returns a gRPC error as an error that a Puller understands. The reasons of
// the CRI specification are at the beginning of the error's text.
func classify(err error) error {
	s, _ := status.FromError(err)
	for _, reason := range []puller.Reason{puller.ErrRegistryUnavailable, puller.ErrSignatureValidation} {
		if strings.HasPrefix(s.Message(), string(reason)) {
			return &runtimeError{s, reason}
		}
	}
	switch s.Code() {
	case codes.NotFound:
		return &runtimeError{s, fs.ErrNotExist}
	case codes.Unauthenticated, codes.PermissionDenied:
		return &runtimeError{s, fs.ErrPermission}
	case codes.Unavailable: // the container runtime does not answer, so no other credential helps
		return credentials.Stop(&runtimeError{s, nil})
	case codes.Canceled:
		return &runtimeError{s, context.Canceled}
	case codes.DeadlineExceeded:
		return &runtimeError{s, context.DeadlineExceeded}
	}
	return &runtimeError{s, nil}
}

// A runtimeError has the text of the runtime's error, and wraps the error that a Puller
// understands.
type runtimeError struct {
	status *status.Status
	means  error
}

func (e *runtimeError) Error() string { return e.status.Message() }
func (e *runtimeError) Unwrap() error { return e.means }
