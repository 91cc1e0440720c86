package layout

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/internal/archive"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExportImport(t *testing.T) {
	a := openTest(t, t.TempDir())
	one, two := newTestImage(t, "registry.example/team/one:v1", 1, 100, 300<<10), newTestImage(t, "two:v2", 2, 5)
	for _, img := range []*testImage{one, two} {
		require.NoError(t, (&testPuller{l: a}).pull(t.Context(), img))
	}
	var all, again, first bytes.Buffer
	require.NoError(t, a.Export(t.Context(), &all))
	require.NoError(t, a.Export(t.Context(), &again))
	assert.True(t, bytes.Equal(all.Bytes(), again.Bytes()), "the same images give the same bytes")
	require.NoError(t, a.Export(t.Context(), &first, one.ref))
	assert.Less(t, first.Len(), all.Len())

	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(all.Bytes())
	require.NoError(t, z.Close())
	for name, archive := range map[string][]byte{"plain": all.Bytes(), "gzip": packed.Bytes()} {
		b := openTest(t, t.TempDir())
		images, err := b.Import(t.Context(), bytes.NewReader(archive), ImportConfig{})
		require.NoError(t, err, name)
		require.Len(t, images, 2)
		assert.Equal(t, one.ref, images[0].Ref)
		assert.Equal(t, one.index.Digest, images[0].Descriptor.Digest)
		assert.Equal(t, one.manifest.Digest, images[0].Manifest.Digest)
		requirePulled(t, b, one, name)
		requirePulled(t, b, two, name)
		requireTidy(t, b)
		_, err = b.Import(t.Context(), bytes.NewReader(archive), ImportConfig{}) // again: all is there
		require.NoError(t, err, name)
	}
	err := a.Export(t.Context(), io.Discard, reference.MustParse("three:v3"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// requireTidy checks that nothing but locks is beside the blobs.
func requireTidy(t *testing.T, l *Layout) {
	t.Helper()
	assert.Subset(t, []string{"lock", "removals"}, stateNames(t, l), "left behind")
}

// stateNames are the names of all files in the state directory.
func stateNames(t *testing.T, l *Layout) (names []string) {
	t.Helper()
	for _, dir := range []string{stateDir, ingestDir} {
		entries, err := l.fs.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			if name := dir + "/" + e.Name(); name != ingestDir && name != usedDir {
				names = append(names, e.Name())
			}
		}
	}
	return names
}

func TestExportRefusesDamage(t *testing.T) {
	l := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/one:v1", 1, 100)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), img))
	rot(t, l, img.all[1])
	err := l.Export(t.Context(), io.Discard)
	assert.ErrorIs(t, err, content.ErrDigestMismatch)
	require.NoError(t, l.fs.Remove(ocilayout.BlobName(img.all[1].Digest)))
	err = l.Export(t.Context(), io.Discard)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// A tarFile is one entry; link makes it a symbolic link.
type tarFile struct {
	name, link string
	data       []byte
}

func tarOf(t testing.TB, files ...tarFile) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		hdr := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data)), Typeflag: tar.TypeReg}
		if f.link != "" {
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, f.link
		}
		require.NoError(t, w.WriteHeader(hdr))
		_, err := w.Write(f.data)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func hexOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func jsonOf(t testing.TB, v any) []byte {
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

// A savedImage is an element of manifest.json.
type savedImage struct {
	Config           string
	RepoTags, Layers []string
}

// dockerFiles is what docker save wrote before it knew OCI layouts: a directory
// for each layer, a link for one that came up before, and manifest.json.
func dockerFiles(t testing.TB, tags ...string) []tarFile {
	layer := tarOf(t, tarFile{name: "hello.txt", data: []byte("hello")})
	diff := digest.Digest("sha256:" + hexOf(layer))
	config := jsonOf(t, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diff, diff}},
	})
	name := hexOf(config) + ".json"
	return []tarFile{
		{name: "aaa/VERSION", data: []byte("1.0")},
		{name: "aaa/layer.tar", data: layer},
		{name: "bbb/layer.tar", link: "../aaa/layer.tar"},
		{name: name, data: config},
		{name: "manifest.json", data: jsonOf(t, []savedImage{{Config: name, RepoTags: tags, Layers: []string{"aaa/layer.tar", "bbb/layer.tar"}}})},
		{name: "repositories", data: []byte("{}")},
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A removingStore is a layout of which another process removes what no image uses, once.
type removingStore struct {
	*Layout
	remove func()
}

func (s *removingStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if s.remove != nil {
		s.remove()
		s.remove = nil
	}
	return s.Layout.Open(ctx, desc)
}

// Another process removes what an archive brought before it is tagged: that is not
// the archive's fault. Files of older archives of docker save come to the store in the
// same way, and nothing of them is left.
func TestImportWhileAnotherRemoves(t *testing.T) {
	from := openTest(t, t.TempDir())
	img := newTestImage(t, "registry.example/team/one:v1", 1, 100, 200)
	require.NoError(t, (&testPuller{l: from}).pull(t.Context(), img))
	var exported bytes.Buffer
	require.NoError(t, from.Export(t.Context(), &exported))
	docker := tarOf(t, dockerFiles(t, "busybox:1.36")...)
	for name, data := range map[string][]byte{"oci": exported.Bytes(), "docker save": docker} {
		t.Run(name, func(t *testing.T) {
			to := openTest(t, t.TempDir())
			other := must(Open(to.Dir()))
			defer other.Close()
			_, err := archive.Import(t.Context(), &removingStore{to, func() {
				freed, err := other.Prune(t.Context(), PruneConfig{MinAge: -1})
				require.NoError(t, err)
				assert.NotZero(t, freed.Blobs)
			}}, bytes.NewReader(data), archive.Config{})
			assert.ErrorIs(t, err, fs.ErrNotExist)
			assert.NotErrorIs(t, err, content.ErrBadIndex)
			requireTidy(t, to)
			images, err := to.Import(t.Context(), bytes.NewReader(data), ImportConfig{})
			require.NoError(t, err, "once more")
			ok, err := to.complete(t.Context(), images[0].Descriptor)
			require.NoError(t, err)
			assert.True(t, ok)
			requireTidy(t, to)
			freed, err := other.Prune(t.Context(), PruneConfig{MinAge: -1})
			require.NoError(t, err)
			assert.Zero(t, freed, "what no image uses was not stored")
		})
	}
}

// Export writes no archive that Import would not read, and each image once in
// Docker's list, without those that are no container images.
func TestExportForDocker(t *testing.T) {
	l, refs := newDockerImages(t)
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		desc := descOf(mediaType, data)
		require.NoError(t, (&testPuller{l: l}).blob(t.Context(), desc, data))
		return desc
	}
	manifest, err := l.Lookup(t.Context(), refs[0])
	require.NoError(t, err)
	again := reference.MustParse("registry.example/docker/again:v2")
	require.NoError(t, l.Tag(t.Context(), again, manifest))
	pinned, err := again.WithDigest(manifest.Digest)
	require.NoError(t, err)
	require.NoError(t, l.Tag(t.Context(), pinned, manifest))
	artifact := put(ocispec.MediaTypeImageManifest, jsonOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": put("application/vnd.oci.empty.v1+json", []byte("{}")), "layers": []ocispec.Descriptor{put("text/plain", []byte("a file"))},
	}))
	require.NoError(t, l.Tag(t.Context(), reference.MustParse("registry.example/artifact:v1"), artifact))

	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(must(os.ReadFile(exportFile(t, l))))); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		assert.NotContains(t, files, hdr.Name, "each file once")
		files[hdr.Name] = must(io.ReadAll(r))
	}
	var list []savedImage
	require.NoError(t, json.Unmarshal(files["manifest.json"], &list))
	var tags []string
	for _, img := range list {
		tags = append(tags, img.RepoTags...)
		assert.Contains(t, files, img.Config)
		for _, layer := range img.Layers {
			assert.Contains(t, files, layer)
		}
	}
	assert.Len(t, list, 2, "Docker's, which has several names, and the OCI image")
	assert.ElementsMatch(t, []string{refs[0].String(), refs[1].String(), again.String(), refs[2].String()}, tags)
	assert.Contains(t, files, ocilayout.BlobName(artifact.Digest), "the artifact is in index.json alone")
}
