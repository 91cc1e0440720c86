package ggcr

import (
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/pullkit/pullkit/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serve starts go-containerregistry's registry, with a login and one image.
func serve(t *testing.T) (image name.Reference, tries *int) {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	tries = new(int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != "new" {
			if user != "" {
				*tries++
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	image, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/team/app:v1")
	require.NoError(t, err)
	img, err := random.Image(64, 1)
	require.NoError(t, err)
	require.NoError(t, remote.Write(image, img, remote.WithAuth(&authn.Basic{Username: "robot", Password: "new"})))
	return image, tries
}

func ring(t *testing.T, image name.Reference, logins string) credentials.Keyring {
	host := image.Context().RegistryStr()
	c, err := credentials.ParseFile([]byte(strings.ReplaceAll(`{"auths":{`+logins+`}}`, "HOST", host)), "config.json", credentials.Rules{})
	require.NoError(t, err)
	require.Empty(t, credentials.Problems(c))
	return c
}

func TestKeychainGivesTheFirstCandidate(t *testing.T) {
	image, _ := serve(t)
	good := ring(t, image, `"HOST/team":{"username":"robot","password":"new"}`)
	_, err := remote.Image(image, remote.WithAuthFromKeychain(Keychain(good)))
	assert.NoError(t, err)

	other, err := name.NewRepository(image.Context().RegistryStr() + "/team-b/app")
	require.NoError(t, err)
	for _, r := range []authn.Resource{other, image.Context().Registry} {
		auth, err := Keychain(good).Resolve(r)
		require.NoError(t, err)
		assert.Equal(t, authn.Anonymous, auth)
	}
	_, err = Keychain(credentials.Static{{Username: "u"}}).Resolve(badResource{})
	assert.Error(t, err)
}

type badResource struct{}

func (badResource) String() string      { return "Not a name" }
func (badResource) RegistryStr() string { return "x" }

// TestImageTriesAllCandidates: Image tries the candidates that a keychain loses.
func TestImageTriesAllCandidates(t *testing.T) {
	image, tries := serve(t)
	both := ring(t, image, `"HOST/team":{"username":"robot","password":"old"},"HOST":{"username":"robot","password":"new"}`)
	_, err := remote.Image(image, remote.WithAuthFromKeychain(Keychain(both)))
	require.Error(t, err)

	*tries = 0
	img, err := Image(t.Context(), both, image)
	require.NoError(t, err)
	assert.Positive(t, *tries)
	layers, err := img.Layers()
	require.NoError(t, err)
	content, err := layers[0].Compressed()
	require.NoError(t, err)
	assert.NoError(t, content.Close())

	_, err = Image(t.Context(), ring(t, image, `"HOST":{"username":"robot","password":"old"}`), image)
	var failed *credentials.AttemptsError
	require.ErrorAs(t, err, &failed)
	assert.Len(t, failed.Attempts, 1)
	assert.False(t, credentials.Stopped(err))

	absent := image.Context().Tag("nope")
	_, err = Image(t.Context(), ring(t, absent, `"HOST/team":{"username":"robot","password":"old"},"HOST":{"username":"robot","password":"new"}`), absent)
	assert.ErrorIs(t, err, fs.ErrNotExist, "the answer to the valid credential counts")
	assert.NotErrorIs(t, err, fs.ErrPermission)

	gone, err := name.ParseReference("127.0.0.1:1/team/app:v1")
	require.NoError(t, err)
	_, err = Image(t.Context(), ring(t, gone, `"HOST":{"username":"a","password":"x"},"HOST/team":{"username":"b","password":"x"}`), gone)
	require.ErrorAs(t, err, &failed)
	assert.Len(t, failed.Attempts, 1, "without a registry one credential is tried")
}

func TestAuthenticatorHasAllFields(t *testing.T) {
	auth, err := Authenticator(credentials.Credential{
		Username: "u", Password: credentials.Conceal("p"), IdentityToken: credentials.Conceal("i"), RegistryToken: credentials.Conceal("r"),
	}).Authorization()
	require.NoError(t, err)
	assert.Equal(t, &authn.AuthConfig{Username: "u", Password: "p", IdentityToken: "i", RegistryToken: "r"}, auth)
	assert.Equal(t, authn.Anonymous, Authenticator(credentials.Credential{}))
}
