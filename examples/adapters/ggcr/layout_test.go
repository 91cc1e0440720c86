package ggcr

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestCraneReadsTheLayout: go-containerregistry, with which crane reads layouts, reads and
// verifies the layout of a pull. First the layout has one of the image's two platforms, and
// then both.
func TestCraneReadsTheLayout(t *testing.T) {
	platforms := []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}}
	reg, err := pullertest.Start(pullertest.Config{})
	require.NoError(t, err)
	defer reg.Close()
	put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{Platforms: platforms, Layers: []int64{1000, 2000}})
	require.NoError(t, err)
	dir := t.TempDir()
	store, err := layout.Open(dir, layout.Config{})
	require.NoError(t, err)
	defer store.Close()
	rt, err := transfer.New(transfer.Config{Store: store})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt})
	require.NoError(t, err)
	name := reg.Host() + "/team/app:v1"

	for i, platform := range platforms {
		_, err = p.Pull(t.Context(), puller.Request{Image: name, Platform: platform, Policy: "Always"})
		require.NoError(t, err)
		root, err := ggcrlayout.ImageIndexFromPath(dir)
		require.NoError(t, err)
		require.NoError(t, validate.Index(root))
		list, err := root.IndexManifest()
		require.NoError(t, err)
		require.Len(t, list.Manifests, 1)
		entry := list.Manifests[0]
		assert.Equal(t, name, entry.Annotations[ocispec.AnnotationRefName])
		want := []string{put.Manifests[0].Digest.String(), put.Descriptor.Digest.String()}[i]
		assert.Equal(t, want, entry.Digest.String())
		if i == 0 {
			img, err := root.Image(v1.Hash{Algorithm: entry.Digest.Algorithm, Hex: entry.Digest.Hex})
			require.NoError(t, err)
			require.NoError(t, validate.Image(img))
		}
	}
}
