package layout_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/archive"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Another tool's copy of an entry never takes the original's name in an archive, in
// either order. Import gives the name to the entry that Lookup answers with.
func TestACopyDoesNotTakeTheOriginalsName(t *testing.T) {
	const name = "registry.example/app:v1"
	for what, annotations := range map[string]map[string]string{
		"a name of its own": {ocispec.AnnotationRefName: "backup", ocilayout.AnnotationResolved: ""},
		"the bare tag":      {ocispec.AnnotationRefName: "v1", ocilayout.AnnotationResolved: ""},
		"no name any more":  {ocispec.AnnotationRefName: "", ocilayout.AnnotationResolved: ""},
		"the same name":     {ocilayout.AnnotationResolved: ""},
	} {
		l := openTest(t, t.TempDir())
		img, other := newTestImage(t, name, 1, 100), newTestImage(t, "registry.example/other:v1", 2, 200)
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
		require.NoError(t, (&testPuller{l: l}).pull(t.Context(), other))
		addEntry(t, l, name, other.manifest, annotations)
		want, err := l.Lookup(t.Context(), img.ref)
		require.NoError(t, err, what)
		require.Equal(t, img.index.Digest, want.Digest, what)

		var exported bytes.Buffer
		require.NoError(t, archive.Export(t.Context(), l, &exported), what)
		var ix ocispec.Index
		require.NoError(t, json.Unmarshal(archiveFile(t, exported.Bytes(), indexName), &ix))
		named := 0
		for _, e := range ix.Manifests {
			if e.Annotations[ocilayout.AnnotationImage] == name {
				named++
			}
		}
		assert.Equal(t, 1, named, "%s: one entry has the whole name", what)

		to := openTest(t, t.TempDir())
		_, err = archive.Import(t.Context(), to, &exported, archive.Config{Repository: "registry.example/copies"})
		require.NoError(t, err, what)
		got, err := to.Lookup(t.Context(), img.ref)
		require.NoError(t, err, what)
		assert.Equal(t, want.Digest, got.Digest, "%s: Import gives the name to another image", what)
	}
}

// If another tool changes an image in place under a name with a digest, the digest still
// means the former image.
func TestDigestNameKeepsItsDigest(t *testing.T) {
	l := openTest(t, t.TempDir())
	img, other := newTestImage(t, "registry.example/app:v1", 1, 100), newTestImage(t, "registry.example/other:v1", 2, 200)
	pinned := reference.MustParse("registry.example/app@" + string(img.manifest.Digest))
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), other))
	addEntry(t, l, "registry.example/app:v1", other.manifest,
		map[string]string{ocispec.AnnotationRefName: pinned.String(), ocilayout.AnnotationImage: "", ocilayout.AnnotationResolved: ""})
	got, err := l.Lookup(t.Context(), pinned)
	require.NoError(t, err, "the digest is found by the tag")
	assert.Equal(t, img.manifest.Digest, got.Digest)
	_, err = l.Remove(t.Context(), img.ref)
	require.NoError(t, err)
	_, err = l.Lookup(t.Context(), pinned)
	assert.ErrorIs(t, err, content.ErrNotFound, "nothing else is the digest's content")
}

// archiveFile returns one file of a tar.
func archiveFile(t *testing.T, exported []byte, name string) []byte {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(exported)); ; {
		header, err := r.Next()
		require.NoError(t, err, "no %s in the archive", name)
		if header.Name == name {
			return must(io.ReadAll(r))
		}
	}
}
