package cri

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var _ puller.Runtime = (*Runtime)(nil)

func TestErrorsOfCRIAreClassified(t *testing.T) {
	tests := []struct {
		err     error
		means   error
		stopped bool
	}{
		{status.Error(codes.NotFound, "gone"), fs.ErrNotExist, false},
		{status.Error(codes.PermissionDenied, "no"), fs.ErrPermission, false},
		{status.Error(codes.Unauthenticated, "who"), fs.ErrPermission, false},
		{status.Error(codes.Unknown, "RegistryUnavailable: refused"), puller.ErrRegistryUnavailable, false},
		{status.Error(codes.Unknown, "SignatureValidationFailed: none"), puller.ErrSignatureValidation, false},
		{status.Error(codes.Canceled, "canceled"), context.Canceled, false},
		{status.Error(codes.DeadlineExceeded, "late"), context.DeadlineExceeded, false},
		{status.Error(codes.Unavailable, "no socket"), nil, true},
		{status.Error(codes.Unknown, "401 Unauthorized"), nil, false},
		{errors.New("not of gRPC"), nil, false},
	}
	for _, tt := range tests {
		got := classify(tt.err)
		if tt.means != nil {
			assert.ErrorIs(t, got, tt.means)
		}
		assert.Equal(t, tt.stopped, credentials.Stopped(got), "%v", tt.err)
	}
}

func TestAuthLeavesServerAddressEmpty(t *testing.T) {
	assert.Nil(t, auth(credentials.Credential{}))
	assert.Equal(t, &runtimeapi.AuthConfig{Username: "u", Password: "p"}, auth(credentials.Credential{Username: "u", Password: credentials.Conceal("p")}))
	assert.Equal(t, &runtimeapi.AuthConfig{IdentityToken: "i", RegistryToken: "r"},
		auth(credentials.Credential{IdentityToken: credentials.Conceal("i"), RegistryToken: credentials.Conceal("r")}))
}

func TestDigestIsThatOfTheName(t *testing.T) {
	const one, two = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
	spec := puller.Spec{Ref: reference.MustParse("a.example/a:1")}
	assert.Equal(t, one, digestOf(spec, []string{"other.example/a@" + two, "nonsense", "a.example/a@" + one}).String())
	assert.Empty(t, digestOf(spec, []string{"a.example/a@" + one, "a.example/a@" + two}))
	assert.Empty(t, digestOf(spec, nil))
	spec.Ref = reference.MustParse("a.example/a@" + two)
	assert.Equal(t, two, digestOf(spec, []string{"a.example/a@" + one}).String())
}

func TestOtherPlatformsAreRefused(t *testing.T) {
	r := &Runtime{host: index.Host()}
	assert.NoError(t, r.check(puller.Spec{Platform: index.Host()}))
	other := index.Host()
	other.Architecture = "s390x"
	assert.True(t, credentials.Stopped(r.check(puller.Spec{Platform: other})))
}

func TestRuntimeHandlerIsPassedOn(t *testing.T) {
	spec := imageSpec(puller.Spec{Written: "a.example/a:1", RuntimeHandler: "kata"})
	assert.Equal(t, "kata", spec.GetRuntimeHandler())
	assert.Equal(t, "a.example/a:1", spec.GetImage())
}
