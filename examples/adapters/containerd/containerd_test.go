package containerd

import (
	"context"
	"io/fs"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withAuthCreds has the signature of docker.WithAuthCreds.
func withAuthCreds(f func(string) (string, string, error)) func(string) (string, string, error) {
	return f
}

func config(t *testing.T) credentials.Keyring {
	c, err := credentials.ParseFile([]byte(`{"auths":{
		"registry.example/team/app": {"registrytoken": "r"},
		"registry.example/team": {"username": "robot", "password": "old"},
		"registry.example": {"identitytoken": "refresh", "username": "u"},
		"docker.io": {"username": "hub", "password": "p"}}}`), "config.json", credentials.Rules{})
	require.NoError(t, err)
	return c
}

func TestOnlyTheRegistryGetsACredential(t *testing.T) {
	for _, tt := range []struct{ image, host, username, secret string }{
		{"registry.example/team/app", "registry.example", "robot", "old"},
		{"registry.example/other", "registry.example", "", "refresh"},
		{"registry.example/team/app", "mirror.example", "", ""},
		{"nginx", "registry-1.docker.io", "hub", "p"},
		{"nginx", "docker.io", "hub", "p"},
		{"none.example/app", "none.example", "", ""},
	} {
		f := withAuthCreds(Credentials(t.Context(), config(t), reference.MustParse(tt.image)))
		username, secret, err := f(tt.host)
		assert.NoError(t, err)
		assert.Equal(t, tt.username, username, tt.image)
		assert.Equal(t, tt.secret, secret, tt.image)
	}
}

func TestEachTriesAllCandidates(t *testing.T) {
	var tried []string
	got, err := Each(t.Context(), config(t), reference.MustParse("registry.example/team/app"), func(_ context.Context, f Func) (string, error) {
		username, secret, err := f("registry.example")
		require.NoError(t, err)
		tried = append(tried, username+":"+secret)
		if secret != "refresh" {
			return "", fs.ErrPermission
		}
		return "pulled", nil
	})
	require.NoError(t, err)
	assert.Equal(t, "pulled", got)
	assert.Equal(t, []string{"robot:old", ":refresh"}, tried)

	_, err = Each(t.Context(), config(t), reference.MustParse("registry.example/team/app"), func(context.Context, Func) (string, error) {
		return "", fs.ErrPermission
	})
	var failed *credentials.AttemptsError
	require.ErrorAs(t, err, &failed)
	assert.Len(t, failed.Attempts, 3)
	assert.ErrorIs(t, err, errRegistryToken)
}
