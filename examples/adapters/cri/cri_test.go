package cri

import (
	"context"
	"net"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// images is a runtime whose image needs a login.
type images struct {
	runtime.UnimplementedImageServiceServer
	code  codes.Code
	tried []string
}

func (s *images) PullImage(_ context.Context, r *runtime.PullImageRequest) (*runtime.PullImageResponse, error) {
	s.tried = append(s.tried, r.GetAuth().GetPassword())
	if r.GetAuth().GetPassword() == "new" && r.GetAuth().GetServerAddress() == "" {
		return &runtime.PullImageResponse{ImageRef: "sha256:1"}, nil
	}
	return nil, status.Error(s.code, "failed to pull and unpack image")
}

// serve runs the CRI's own gRPC service over loopback.
func serve(t *testing.T, code codes.Code) (*images, runtime.ImageServiceClient) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	service, server := &images{code: code}, grpc.NewServer()
	runtime.RegisterImageServiceServer(server, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return service, runtime.NewImageServiceClient(conn)
}

func ring(t *testing.T) credentials.Keyring {
	c, err := credentials.ParseFile([]byte(`{"auths":{
		"registry.example/team": {"username": "robot", "password": "old"},
		"registry.example": {"username": "robot", "password": "new"}}}`), "config.json", credentials.Rules{})
	require.NoError(t, err)
	return c
}

func request(image string) *runtime.PullImageRequest {
	return &runtime.PullImageRequest{Image: &runtime.ImageSpec{Image: image}}
}

func TestPullImageTriesAllCandidates(t *testing.T) {
	service, client := serve(t, codes.Unknown)
	response, err := PullImage(t.Context(), client, ring(t), request("registry.example/team/app:v1"))
	require.NoError(t, err)
	assert.Equal(t, "sha256:1", response.GetImageRef())
	assert.Equal(t, []string{"old", "new"}, service.tried)

	service.tried = nil
	_, err = PullImage(t.Context(), client, ring(t), request("other.example/app"))
	assert.Equal(t, []string{""}, service.tried, "one anonymous request")
	var failed *credentials.AttemptsError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, codes.Unknown, status.Code(failed.Attempts[0].Err))

	_, err = PullImage(t.Context(), client, ring(t), request("Not a name"))
	assert.Error(t, err)
}

func TestPullImageStopsAfterResourceExhausted(t *testing.T) {
	service, client := serve(t, codes.ResourceExhausted)
	_, err := PullImage(t.Context(), client, ring(t), request("registry.example/team/app:v1"))
	assert.True(t, credentials.Stopped(err))
	assert.Equal(t, []string{"old"}, service.tried)
}

func TestAuthConfigHasAllFields(t *testing.T) {
	assert.Nil(t, AuthConfig(credentials.Credential{}))
	auth := AuthConfig(credentials.Credential{Username: "u", Password: credentials.Conceal("p"), IdentityToken: credentials.Conceal("i"), RegistryToken: credentials.Conceal("r")})
	assert.Equal(t, []string{"u", "p", "i", "r", ""}, []string{auth.Username, auth.Password, auth.IdentityToken, auth.RegistryToken, auth.ServerAddress})
}
