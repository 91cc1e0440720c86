package layout_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/puller/archive"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A layout that the first version of this package wrote can be read and written.
// testdata/former.tar is such a layout. It has a manifest and an index in OCI's format
// and in Docker's, each index with the image of one of two platforms.
func TestLayoutOfTheFirstVersionIsRead(t *testing.T) {
	dir := t.TempDir()
	unpackLayout(t, dir, "former.tar")
	l := openTest(t, dir)
	names := []string{
		"registry.example/team/plain:v1", "registry.example/team/index:v1",
		"registry.example/team/dplain:v1", "registry.example/team/dlist:v1",
	}
	images, err := l.List(t.Context())
	require.NoError(t, err)
	require.Len(t, images, len(names))
	for i, name := range names {
		assert.Equal(t, name, images[i].Ref.String())
		got, err := l.Lookup(t.Context(), images[i].Ref)
		require.NoError(t, err)
		assert.Equal(t, images[i].Descriptor, got)
		assert.Equal(t, i%2 == 1, mediatype.IsIndex(got.MediaType), name)
		assert.Equal(t, i%2 == 1, got.Digest != images[i].Manifest.Digest, name)
	}
	requireWhole(t, l)
	before := must(os.ReadFile(filepath.Join(dir, indexName)))
	for _, img := range images {
		require.NoError(t, l.Tag(t.Context(), img.Ref, img.Descriptor))
	}
	assert.Equal(t, string(before), string(must(os.ReadFile(filepath.Join(dir, indexName)))), "a Tag of an existing name and image keeps the bytes of the file")
	require.NoError(t, archive.Export(t.Context(), l, io.Discard))
	_, err = l.Remove(t.Context(), reference.MustParse(names[1]))
	require.NoError(t, err)
	requireWhole(t, l)
}
