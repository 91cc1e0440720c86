package oras

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// serve starts a registry with a login and one manifest.
func serve(t *testing.T) reference.Reference {
	manifest, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest})
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "robot" || password != "new" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if !strings.HasSuffix(r.URL.Path, "/v1") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Content-Length", fmt.Sprint(len(manifest)))
		w.Header().Set("Docker-Content-Digest", fmt.Sprintf("sha256:%x", sha256.Sum256(manifest)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(manifest)
		}
	}))
	t.Cleanup(server.Close)
	return reference.MustParse(strings.TrimPrefix(server.URL, "http://") + "/team/app:v1")
}

func ring(t *testing.T, ref reference.Reference, logins string) credentials.Keyring {
	c, err := credentials.ParseFile([]byte(strings.ReplaceAll(`{"auths":{`+logins+`}}`, "HOST", ref.Registry())), "config.json", credentials.Rules{})
	require.NoError(t, err)
	require.Empty(t, credentials.Problems(c))
	return c
}

func resolve(ctx context.Context, repo *remote.Repository) (ocispec.Descriptor, error) {
	repo.PlainHTTP = true
	return repo.Resolve(ctx, "v1")
}

const stale = `"HOST/team":{"username":"robot","password":"old"},"HOST":{"username":"robot","password":"new"}`

func TestOnlyTheRegistryGetsACredential(t *testing.T) {
	ref := serve(t)
	with := func(logins string) error {
		repo, err := remote.NewRepository(ref.Name())
		require.NoError(t, err)
		repo.Client = &auth.Client{Credential: Credential(ring(t, ref, logins), ref)}
		_, err = resolve(t.Context(), repo)
		return err
	}
	assert.NoError(t, with(`"HOST/team":{"username":"robot","password":"new"}`))
	assert.Error(t, with(`"HOST/team-b":{"username":"robot","password":"new"}`))
	assert.Error(t, with(stale), "the function returns only one credential")

	f := Credential(ring(t, ref, stale), ref)
	got, err := f(t.Context(), "elsewhere.example")
	require.NoError(t, err)
	assert.Equal(t, auth.EmptyCredential, got)

	hub := reference.MustParse("nginx")
	f = Credential(credentials.Static{{Username: "u", IdentityToken: credentials.Conceal("i"), RegistryToken: credentials.Conceal("r")}}, hub)
	got, err = f(t.Context(), "registry-1.docker.io")
	require.NoError(t, err)
	assert.Equal(t, auth.Credential{Username: "u", RefreshToken: "i", AccessToken: "r"}, got)
}

func TestEachTriesAllCandidates(t *testing.T) {
	ref := serve(t)
	desc, err := Each(t.Context(), ring(t, ref, stale), ref, resolve)
	require.NoError(t, err)
	assert.Equal(t, ocispec.MediaTypeImageManifest, desc.MediaType)

	_, err = Each(t.Context(), ring(t, ref, `"HOST":{"username":"robot","password":"old"}`), ref, resolve)
	var failed *credentials.AttemptsError
	require.ErrorAs(t, err, &failed)
	assert.Len(t, failed.Attempts, 1)
	assert.False(t, credentials.Stopped(err))

	_, err = Each(t.Context(), ring(t, ref, stale), ref, func(ctx context.Context, repo *remote.Repository) (ocispec.Descriptor, error) {
		repo.PlainHTTP = true
		return repo.Resolve(ctx, "nope")
	})
	assert.ErrorIs(t, err, fs.ErrNotExist, "the answer to the valid credential counts")
	assert.NotErrorIs(t, err, fs.ErrPermission)

	_, err = Each(t.Context(), ring(t, ref, ""), ref, resolve)
	require.ErrorAs(t, err, &failed)
	assert.Len(t, failed.Attempts, 1, "the anonymous request")

	_, err = Each(t.Context(), ring(t, ref, stale), ref, func(context.Context, *remote.Repository) (int, error) { return 0, assert.AnError })
	assert.True(t, credentials.Stopped(err))
	require.ErrorAs(t, err, &failed)
	assert.Len(t, failed.Attempts, 1)
}
