package transfer_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestResolveVectors walks the documents of package index's resolve.json.
func TestResolveVectors(t *testing.T) {
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
	kinds := map[string][]content.Kind{
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
			rt := transfer.New(transfer.Config{Source: s, Store: newMemStore()})
			got, err := rt.Pull(t.Context(), puller.Spec{Ref: ref, Platform: want})
			if c.Error != "" {
				assert.Contains(t, kinds[c.Error], content.KindOf(err), "%v", err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.Want, got.Manifest)
		})
	}
}

// TestArtifactBesideImages: what is said about an image is no image for the
// platforms that the index lacks.
func TestArtifactBesideImages(t *testing.T) {
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

	rt := transfer.New(transfer.Config{Source: s, Store: newMemStore()})
	_, err := rt.Pull(t.Context(), puller.Spec{Ref: both, Platform: arm})
	require.ErrorIs(t, err, content.ErrNoPlatform)
	img, err := rt.Pull(t.Context(), puller.Spec{Ref: alone, Platform: arm})
	require.NoError(t, err)
	assert.Equal(t, sbom.Digest, img.Manifest)
}
