package archive

import (
	"bytes"
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

// A twoListArchive makes archives that have two images and any index.json and
// manifest.json.
type twoListArchive struct {
	first, second testImage
	blobs         []tarFile
	configs       map[digest.Digest]string // by digest of a manifest, the path of its config
}

func newTwoListArchive(t *testing.T) *twoListArchive {
	t.Helper()
	store := new(pullertest.MemStore)
	a := &twoListArchive{configs: make(map[digest.Digest]string)}
	image := func(name string) testImage {
		layer := tarOf(t, tarFile{name: name, data: []byte(name)})
		config := jsonOf(t, ocispec.Image{
			Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.Digest("sha256:" + hexOf(layer))}},
		})
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest,
			Config: put(t, store, ocispec.MediaTypeImageConfig, config),
			Layers: []ocispec.Descriptor{put(t, store, ocispec.MediaTypeImageLayer, layer)}}
		m.SchemaVersion = 2
		img := testImage{manifest: put(t, store, ocispec.MediaTypeImageManifest, jsonOf(t, m)), layers: m.Layers}
		index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{img.manifest}}
		index.SchemaVersion = 2
		img.index = put(t, store, ocispec.MediaTypeImageIndex, jsonOf(t, index))
		a.configs[img.manifest.Digest] = ocilayout.BlobName(m.Config.Digest)
		for _, desc := range []ocispec.Descriptor{img.index, img.manifest, m.Config, m.Layers[0]} {
			a.blobs = append(a.blobs, tarFile{name: ocilayout.BlobName(desc.Digest), data: must(ocilayout.ReadBlob(t.Context(), store, desc))})
		}
		return img
	}
	a.first, a.second = image("first"), image("second")
	return a
}

// docker returns an element of manifest.json.
func (a *twoListArchive) docker(img testImage, tags ...string) dockerImage {
	return dockerImage{Config: a.configs[img.manifest.Digest], RepoTags: tags, Layers: []string{ocilayout.BlobName(img.layers[0].Digest)}}
}

// named returns an element of index.json with these two annotations.
func named(desc ocispec.Descriptor, name, image string) ocispec.Descriptor {
	desc.Annotations = map[string]string{}
	if name != "" {
		desc.Annotations[ocispec.AnnotationRefName] = name
	}
	if image != "" {
		desc.Annotations[ocilayout.AnnotationImage] = image
	}
	return desc
}

// files returns the files of the archive. list is the content of manifest.json.
func (a *twoListArchive) files(t *testing.T, entries []ocispec.Descriptor, list any) []tarFile {
	return append(a.blobs[:len(a.blobs):len(a.blobs)],
		tarFile{name: ocilayout.LayoutFile, data: []byte(ocilayout.Layout)},
		tarFile{name: ocilayout.IndexFile, data: jsonOf(t, map[string]any{"schemaVersion": 2, "manifests": entries})},
		tarFile{name: dockerList, data: jsonOf(t, list)})
}

// imported returns the names of the images that Import returns, in order, each with the
// digest of its descriptor. It checks that the names have the same digests in the store.
func imported(t *testing.T, archive []byte, cfg Config) ([]string, error) {
	t.Helper()
	store := new(pullertest.MemStore)
	entries, err := Import(t.Context(), store, bytes.NewReader(archive), cfg)
	var names []string
	for _, e := range entries {
		got, err := store.Lookup(t.Context(), e.Ref)
		require.NoError(t, err)
		assert.Equal(t, e.Descriptor.Digest, got.Digest, "%s", e.Ref)
		names = append(names, e.Ref.String()+" "+string(e.Descriptor.Digest))
	}
	return names, err
}

// TestImportStoresWhatOnlyOneListHas: Import stores the images and names that only manifest.json lists.
// The two files may be anywhere in the archive.
func TestImportStoresWhatOnlyOneListHas(t *testing.T) {
	a := newTwoListArchive(t)
	const app, hub = "docker.io/library/a:v1", "docker.io/library/"
	m1, m2, i1 := a.first.manifest, a.second.manifest, a.first.index
	one := []ocispec.Descriptor{named(m1, "v1", app)}
	is := func(name string, desc ocispec.Descriptor) string { return name + " " + string(desc.Digest) }
	// The manifest that Import makes for the second image from manifest.json.
	made, err := imported(t, tarOf(t, append(a.blobs[:len(a.blobs):len(a.blobs)], tarFile{name: dockerList, data: jsonOf(t, []dockerImage{a.docker(a.second, "b:v1")})})...), Config{})
	require.NoError(t, err)
	second := ocispec.Descriptor{Digest: digest.Digest(strings.TrimPrefix(made[0], hub+"b:v1 "))}
	for name, tt := range map[string]struct {
		entries []ocispec.Descriptor
		list    any
		want    []string
	}{
		"the same":         {one, []dockerImage{a.docker(a.first, "a:v1")}, []string{is(app, m1)}},
		"one more image":   {one, []dockerImage{a.docker(a.first, "a:v1"), a.docker(a.second, "b:v1")}, []string{is(app, m1), is(hub+"b:v1", second)}},
		"one more tag":     {one, []dockerImage{a.docker(a.first, "a:v1", "a:v9")}, []string{is(app, m1), is(hub+"a:v9", m1)}},
		"tag of an index":  {[]ocispec.Descriptor{named(i1, "v1", app)}, []dockerImage{a.docker(a.first, "a:v1", "a:v9")}, []string{is(app, i1), is(hub+"a:v9", i1)}},
		"one name, two":    {one, []dockerImage{a.docker(a.second, "a:v1")}, []string{is(app, m1), is(hub+"a@"+string(second.Digest), second)}},
		"names exchanged":  {[]ocispec.Descriptor{named(m1, app, ""), named(m2, hub+"b:v1", "")}, []dockerImage{a.docker(a.first, "b:v1"), a.docker(a.second, "a:v1")}, []string{is(app, m1), is(hub+"b:v1", m2)}},
		"<none> and known": {one, []dockerImage{a.docker(a.first, noRepoTag)}, []string{is(app, m1)}},
		"no tag and known": {one, []dockerImage{a.docker(a.first)}, []string{is(app, m1)}},
		"empty index.json": {[]ocispec.Descriptor{}, []dockerImage{a.docker(a.second, "b:v1")}, []string{is(hub+"b:v1", second)}},
		"index.json null":  {nil, []dockerImage{a.docker(a.second, "b:v1")}, []string{is(hub+"b:v1", second)}},
		"another file":     {one, map[string]int{"schemaVersion": 2}, []string{is(app, m1)}},
		"empty list":       {one, []dockerImage{}, []string{is(app, m1)}},
	} {
		files := a.files(t, tt.entries, tt.list)
		last := len(files) - 1
		for range 2 {
			got, err := imported(t, tarOf(t, files...), Config{})
			require.NoError(t, err, name)
			assert.Equal(t, tt.want, got, name)
			files[last], files[last-1] = files[last-1], files[last]
		}
	}
	for name, tt := range map[string]struct {
		entries []ocispec.Descriptor
		list    any
		text    string
	}{
		"without a name":    {one, []dockerImage{a.docker(a.second)}, "image " + string(second.Digest) + " does not have a name: set Config.Repository"},
		"<none>":            {one, []dockerImage{a.docker(a.second, noRepoTag)}, "image " + string(second.Digest) + " does not have a name: set Config.Repository"},
		"no such file":      {one, []dockerImage{{Config: "x.json", RepoTags: []string{"b:v1"}}}, `manifest.json names "x.json", which is not in it: make the archive again`},
		"a damaged list":    {one, []int{7}, "manifest.json: [0]"},
		"both lists empty":  {[]ocispec.Descriptor{}, []dockerImage{}, "index.json lists no images: save the archive again"},
		"empty, and a file": {[]ocispec.Descriptor{}, map[string]int{}, "index.json lists no images: save the archive again"},
	} {
		_, err := imported(t, tarOf(t, a.files(t, tt.entries, tt.list)...), Config{})
		assert.ErrorContains(t, err, tt.text, name)
	}
	got, err := imported(t, tarOf(t, a.files(t, one, []dockerImage{a.docker(a.second, noRepoTag)})...), Config{Repository: "r.example/x"})
	require.NoError(t, err)
	assert.Equal(t, []string{is(app, m1), is("r.example/x@"+string(second.Digest), second)}, got)
}

// TestNameOfContainerdIsGivenOnce: an entry whose whole name is in containerd's annotation
// gets this name. It gets a name with its digest if another entry has the name.
func TestNameOfContainerdIsGivenOnce(t *testing.T) {
	a := newTwoListArchive(t)
	const app, repo = "docker.io/library/a:v1", "docker.io/library/a"
	m1, m2 := a.first.manifest, a.second.manifest
	is := func(name string, desc ocispec.Descriptor) string { return name + " " + string(desc.Digest) }
	at := repo + "@" + string(m2.Digest)
	for name, tt := range map[string]struct {
		entries []ocispec.Descriptor
		want    []string
	}{
		"same digest":           {[]ocispec.Descriptor{named(m1, "v1", app), named(m1, "v1", app)}, []string{is(app, m1)}},
		"two digests":           {[]ocispec.Descriptor{named(m1, "v1", app), named(m2, "v1", app)}, []string{is(app, m1), is(at, m2)}},
		"beside ref.name":       {[]ocispec.Descriptor{named(m2, "v1", app), named(m1, app, "")}, []string{is(at, m2), is(app, m1)}},
		"beside it, same":       {[]ocispec.Descriptor{named(m1, "v1", app), named(m1, app, "")}, []string{is(app, m1)}},
		"without ref.name":      {[]ocispec.Descriptor{named(m2, "", app), named(m1, "v1", app)}, []string{is(at, m2), is(app, m1)}},
		"twice without it":      {[]ocispec.Descriptor{named(m1, "", app), named(m2, "", app)}, []string{is(app, m1), is(at, m2)}},
		"without it, same":      {[]ocispec.Descriptor{named(m1, "v1", app), named(m1, "", app)}, []string{is(app, m1)}},
		"and manifest.json too": {[]ocispec.Descriptor{named(m1, "v1", app), named(m2, "v1", app)}, []string{is(app, m1), is(at, m2)}},
	} {
		list := []dockerImage{}
		if strings.HasPrefix(name, "and") {
			list = append(list, a.docker(a.first, "a:v1"), a.docker(a.second, "a:v1"))
		}
		got, err := imported(t, tarOf(t, a.files(t, tt.entries, list)...), Config{})
		require.NoError(t, err, name)
		assert.Equal(t, tt.want, got, name)
	}
}

// The tag <none>:<none> of old versions of Docker is not a name.
func TestNoneTagIsNotAName(t *testing.T) {
	_, err := imported(t, tarOf(t, dockerFiles(t, noRepoTag)...), Config{})
	assert.ErrorIs(t, err, content.ErrBadReference)
	assert.ErrorContains(t, err, "does not have a name: set Config.Repository")
	got, err := imported(t, tarOf(t, dockerFiles(t, noRepoTag)...), Config{Repository: "r.example/x"})
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Contains(t, got[0], "r.example/x@sha256:")
	got, err = imported(t, tarOf(t, dockerFiles(t, noRepoTag, "a:v1")...), Config{})
	require.NoError(t, err)
	require.Len(t, got, 1)
	assert.Contains(t, got[0], "docker.io/library/a:v1 ")
}

// TestErrorSaysThatAnArchiveIsCutOff: Import of an archive that is cut off stores all images, or its
// error says that the archive is cut off.
func TestErrorSaysThatAnArchiveIsCutOff(t *testing.T) {
	a := newTwoListArchive(t)
	for name, files := range map[string][]tarFile{
		"docker": dockerFiles(t, "a:v1"),
		"both":   a.files(t, []ocispec.Descriptor{named(a.first.manifest, "v1", "docker.io/library/a:v1")}, []dockerImage{}),
	} {
		whole := tarOf(t, files...)
		all, err := imported(t, whole, Config{})
		require.NoError(t, err)
		check := func(archive []byte) {
			got, err := imported(t, archive, Config{})
			if err == nil {
				assert.Equal(t, all, got, "%s, %d bytes", name, len(archive))
				return
			}
			assert.ErrorContains(t, err, "cut off", "%s, %d bytes", name, len(archive))
			assert.ErrorContains(t, err, "copy it again", "%s, %d bytes", name, len(archive))
			assert.ErrorIs(t, err, content.ErrBadIndex)
		}
		for n := 300; n < len(whole); n += 97 { // fewer bytes do not show that it is a tar
			check(whole[:n])
		}
		for n := 512; n < len(whole); n += 512 { // between two blocks
			check(whole[:n])
		}
		packed := []byte(gzipOf(t, string(whole)))
		for n := 2; n < len(packed); n += 1 + len(packed)/50 {
			_, err := Import(t.Context(), new(pullertest.MemStore), bytes.NewReader(packed[:n]), Config{})
			assert.ErrorContains(t, err, "cut off: copy it again", "%s, %d bytes in gzip", name, n)
		}
	}
}
