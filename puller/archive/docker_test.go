package archive

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The paths in manifest.json may be those of blobs, and layers may be compressed. The
// first bytes of a layer show its format.
func TestFirstBytesOfALayerShowItsFormat(t *testing.T) {
	layer := tarOf(t, tarFile{name: "hello.txt", data: []byte("hello")})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(layer)
	require.NoError(t, z.Close())
	zstd := []byte(zstdMagic + "not read here")
	short := []byte("x")
	diff := func(data []byte) digest.Digest { return digest.Digest("sha256:" + hexOf(data)) }
	config := jsonOf(t, ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff(layer), diff(layer), diff(layer), diff(short)}}})
	blob := func(data []byte) string { return ocilayout.BlobName(diff(data)) }
	list := jsonOf(t, []dockerImage{{Config: blob(config), RepoTags: []string{"busybox:1.36"}, Layers: []string{blob(layer), blob(packed.Bytes()), blob(zstd), blob(short)}}})
	store := new(pullertest.MemStore)
	entries, err := Import(t.Context(), store, bytes.NewReader(tarOf(t,
		tarFile{name: "manifest.json", data: list}, tarFile{name: blob(config), data: config}, tarFile{name: blob(layer), data: layer},
		tarFile{name: blob(packed.Bytes()), data: packed.Bytes()}, tarFile{name: blob(zstd), data: zstd}, tarFile{name: blob(short), data: short},
	)), Config{})
	require.NoError(t, err)
	doc, err := ocilayout.Read(t.Context(), store, entries[0].Descriptor)
	require.NoError(t, err)
	var types []string
	for _, l := range doc.Layers {
		types = append(types, strings.TrimPrefix(l.MediaType, ocispec.MediaTypeImageLayer))
	}
	assert.Equal(t, []string{"", "+gzip", "+zstd", ""}, types)
	assert.Nil(t, entries[0].Descriptor.Platform, "the config has no platform")
}

func TestImportRefusesDamagedLists(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                              "manifest.json is not the list that docker save writes",
		`[{"Layers":"x"}]`:                "[0].*: wrong type: want an array",
		`[{"RepoTags":{}}]`:               "want an array",
		`[`:                               "manifest.json: [0]: bad JSON",
		`[{"Config":7}]`:                  "the member Config has the wrong type",
		`[{"Config":"no-such-file"}]`:     `manifest.json names "no-such-file", which is not in it`,
		`[{"Config":"../../etc/passwd"}]`: "which is not in it",
		`[{"Config":"blobs/sha256/` + "x" + `"}]`: "which is not in it",
	} {
		_, err := Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(tarOf(t, tarFile{name: "manifest.json", data: []byte(text)})), Config{})
		assert.ErrorIs(t, err, content.ErrBadIndex, text)
		assert.ErrorContains(t, err, want, text)
	}
	images, err := parseDockerList([]byte(`[{"Config":"c","RepoTags":null,"Layers":["l"],"Parent":"","LayerSources":{"a":{}}}]`))
	require.NoError(t, err)
	assert.Equal(t, []dockerImage{{Config: "c", Layers: []string{"l"}}}, images)
}
