package transfer_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A name is resolved in one request, without a Store, and for no platform.
func TestANameIsResolvedInOneRequest(t *testing.T) {
	src := newFakeSource()
	other := src.image(t, arm64, random(1, 100))
	other.Platform = &arm64
	idx := src.index(t, other)
	rt := newRuntime(t, transfer.Config{Source: src})
	for name, want := range map[string]ocispec.Descriptor{
		"registry.example/index:v1": idx,
		"registry.example/image:v1": other,
	} {
		for _, platform := range []ocispec.Platform{amd64, arm64, {}, {OS: "linux"}} {
			before := src.requests()
			got, err := rt.Resolve(t.Context(), puller.Spec{Ref: src.name(name, want), Platform: platform})
			require.NoError(t, err, name)
			assert.Equal(t, want.Digest, got)
			assert.Equal(t, before+1, src.requests(), "one request")
		}
	}
	pinned, err := reference.MustParse("registry.example/index:v1").WithDigest(idx.Digest)
	require.NoError(t, err)
	got, err := rt.Resolve(t.Context(), puller.Spec{Ref: pinned})
	require.NoError(t, err)
	assert.Equal(t, idx.Digest, got)
}

func TestErrorsOfResolveAreThoseOfPull(t *testing.T) {
	const password = "s3cret-password"
	src := newFakeSource()
	src.manifest = func(repo content.Repo) error {
		if repo.Cred.Password.Reveal() == "wrong" {
			return &content.Error{Reason: content.ErrUnauthorized, Err: errors.New("401")}
		}
		return nil
	}
	image := src.image(t, amd64, random(1, 100))
	lying := src.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{"schemaVersion": 2})
	src.docs[lying.Digest] = append(src.docs[lying.Digest][:lying.Size-1:lying.Size-1], ' ')
	telling := src.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": map[string]any{"mediaType": ocispec.MediaTypeImageConfig, "digest": password, "size": 1}, "layers": []any{},
	})
	pinned, err := src.name("registry.example/moved:v1", image).WithDigest(digest.FromString("other"))
	require.NoError(t, err)
	src.names[pinned.String()] = image
	with := func(ref reference.Reference, password string) puller.Spec {
		return puller.Spec{Ref: ref, Credential: credentials.Credential{Username: "robot", Password: credentials.Conceal(password)}}
	}
	for _, tt := range []struct {
		name    string
		spec    puller.Spec
		is      error
		stopped bool // no other credential helps
	}{
		{"no name", puller.Spec{}, content.ErrBadReference, true},
		{"absent", with(reference.MustParse("registry.example/none:v1"), "right"), fs.ErrNotExist, false},
		{"refused", with(src.name(appName, image), "wrong"), fs.ErrPermission, false},
		{"other bytes", with(src.name("registry.example/lying:v1", lying), "right"), content.ErrDigestMismatch, true},
		{"another digest", puller.Spec{Ref: pinned}, content.ErrDigestMismatch, true},
		{"a manifest that repeats the password", with(src.name("registry.example/telling:v1", telling), password), content.ErrBadDigest, true},
	} {
		got, err := newRuntime(t, transfer.Config{Source: src}).Resolve(t.Context(), tt.spec)
		require.ErrorIs(t, err, tt.is, tt.name)
		assert.Equal(t, tt.stopped, credentials.Stopped(err), tt.name)
		assert.NotContains(t, err.Error(), password, tt.name)
		assert.Empty(t, got, tt.name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newRuntime(t, transfer.Config{Source: src}).Resolve(ctx, with(src.name(appName, image), "right"))
	assert.ErrorIs(t, err, context.Canceled)
}

// The documents are those of package index's resolve.json.
func TestResolveFollowsThePublishedDocuments(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "index", "testdata", "vectors", "resolve.json"))
	require.NoError(t, err)
	var doc struct {
		Cases []struct {
			Name, Root, RootContentType, Platform, Error string
			RootDigest, Want                             digest.Digest
			Blobs                                        map[digest.Digest]string
		}
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	require.Len(t, doc.Cases, 17)
	kinds := map[string][]content.Reason{
		"no-match": {content.ErrNoPlatform}, "not-found": {content.ErrNotFound},
		"invalid": {content.ErrBadManifest, content.ErrBadIndex, content.ErrTooDeep, content.ErrDigestMismatch, content.ErrSizeMismatch},
	}
	for _, c := range doc.Cases {
		t.Run(c.Name, func(t *testing.T) {
			s := newFakeSource()
			for d, body := range c.Blobs {
				s.docs[d], s.blobs[d] = []byte(body), []byte(body)
			}
			s.docs[c.RootDigest] = []byte(c.Root)
			ref := s.name("registry.example/a:v1", ocispec.Descriptor{MediaType: c.RootContentType, Digest: c.RootDigest, Size: int64(len(c.Root))})
			want, err := index.ParsePlatform(c.Platform)
			require.NoError(t, err)
			rt := newRuntime(t, transfer.Config{Source: s, Store: newMemStore()})
			got, err := rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: want})
			if c.Error != "" {
				assert.Contains(t, kinds[c.Error], content.ReasonOf(err), "%v", err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.Want, got.Manifest)
		})
	}
}

// An artifact about an image is not an image for the platforms that the index does not have.
func TestAnArtifactIsNotChosenInPlaceOfAnImage(t *testing.T) {
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	s := newFakeSource()
	amd64 := s.image(t, ocispec.Platform{OS: "linux", Architecture: "amd64"})
	amd64.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	sbom := s.putDoc(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: s.putBlob("application/vnd.example.sbom", []byte("{}")),
		Layers: []ocispec.Descriptor{s.putBlob("application/spdx+json", []byte("[]"))},
	})
	both := s.name("registry.example/a:both", s.index(t, amd64, sbom))
	alone := s.name("registry.example/a:alone", s.index(t, sbom))

	rt := newRuntime(t, transfer.Config{Source: s, Store: newMemStore()})
	_, err := rt.Pull(t.Context(), puller.Spec{Ref: both, Platform: arm})
	require.ErrorIs(t, err, content.ErrNoPlatform)
	img, err := rt.Pull(t.Context(), puller.Spec{Ref: alone, Platform: arm})
	require.NoError(t, err)
	assert.Equal(t, sbom.Digest, img.Manifest)
}
