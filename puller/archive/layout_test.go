package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func openLayout(t testing.TB) *layout.Layout {
	t.Helper()
	l, err := layout.Open(t.TempDir(), layout.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// blobPath returns the path of a blob's file in a layout.
func blobPath(l *layout.Layout, desc ocispec.Descriptor) string {
	return filepath.Join(l.Dir(), filepath.FromSlash(ocilayout.BlobName(desc.Digest)))
}

// requireTidy checks that a layout does not have incomplete blobs.
func requireTidy(t testing.TB, l *layout.Layout) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(l.Dir(), ".pullkit", "ingest"))
	require.NoError(t, err)
	assert.Empty(t, entries, "left behind")
}

// A layout lists its images, so that Export without names exports all of them.
func TestExportOfALayoutHasAllItsImages(t *testing.T) {
	from := openLayout(t)
	one := newImage(t, from, "registry.example/team/one:v1", "a layer", strings.Repeat("a long layer", 100<<10))
	two := newImage(t, from, "two:v2", "another")
	all := exported(t, from)
	assert.Equal(t, all, exported(t, from), "the same images give the same bytes")
	assert.Equal(t, all, exported(t, from, one.ref, two.ref))
	docker := tarOf(t, dockerFiles(t, "busybox:1.36")...)

	to := openLayout(t)
	entries, err := Import(t.Context(), to, bytes.NewReader(all), Config{})
	require.NoError(t, err)
	more, err := Import(t.Context(), to, bytes.NewReader(docker), Config{})
	require.NoError(t, err)
	requireImage(t, to, one)
	requireImage(t, to, two)
	requireTidy(t, to)
	list, err := to.List(t.Context())
	require.NoError(t, err)
	assert.Equal(t, append(entries, more...), list, "Import returns the same entries as List")
	freed, err := to.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	assert.Zero(t, freed, "Import stores no blob that no image uses")
	for _, err := range to.Verify(t.Context()) {
		assert.NoError(t, err)
	}
	pinned := reference.MustParse("registry.example/team/one@" + string(one.manifest.Digest))
	assert.NotEmpty(t, exported(t, from, pinned), "Export finds a digest as Lookup does")
	memory := new(pullertest.MemStore)
	_, err = Import(t.Context(), memory, bytes.NewReader(all), Config{})
	require.NoError(t, err)
	assert.Equal(t, all, exported(t, memory, one.ref, two.ref), "every store writes the same archive")
}

func TestExportRefusesDamage(t *testing.T) {
	l := openLayout(t)
	img := newImage(t, l, "registry.example/team/one:v1", "a layer")
	path := blobPath(l, img.layers[0])
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, os.WriteFile(path, []byte("a liar!"), 0o644))
	require.NoError(t, os.Chtimes(path, fi.ModTime(), fi.ModTime()))
	err = Export(t.Context(), l, io.Discard)
	assert.ErrorIs(t, err, content.ErrDigestMismatch)
	assert.ErrorContains(t, err, string(img.layers[0].Digest))
	require.NoError(t, os.Remove(path))
	err = Export(t.Context(), l, io.Discard)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.ErrorContains(t, err, "registry.example/team/one:v1")
}

// A removingStore is a layout from which another process removes unused blobs before the
// first blob is opened.
type removingStore struct {
	*layout.Layout
	remove func()
}

func (s *removingStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if s.remove != nil {
		s.remove()
		s.remove = nil
	}
	return s.Layout.Open(ctx, desc)
}

// Another process removes blobs of an archive before they are tagged. The error does not
// say that the archive is bad.
func TestErrorSaysThatAnotherProcessRemovedBlobs(t *testing.T) {
	from := openLayout(t)
	newImage(t, from, "registry.example/team/one:v1", "a layer", "another")
	for name, data := range map[string][]byte{
		"oci":         exported(t, from),
		"docker save": tarOf(t, dockerFiles(t, "busybox:1.36")...),
	} {
		t.Run(name, func(t *testing.T) {
			to := openLayout(t)
			other, err := layout.Open(to.Dir(), layout.Config{})
			require.NoError(t, err)
			defer other.Close()
			_, err = Import(t.Context(), &removingStore{to, func() {
				freed, err := other.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
				require.NoError(t, err)
				assert.NotZero(t, freed.Blobs)
			}}, bytes.NewReader(data), Config{})
			assert.ErrorIs(t, err, fs.ErrNotExist)
			assert.NotErrorIs(t, err, content.ErrBadIndex)
			requireTidy(t, to)
			_, err = Import(t.Context(), to, bytes.NewReader(data), Config{})
			require.NoError(t, err, "the same import again")
			requireTidy(t, to)
		})
	}
	// If the archive does not have the content, the error says so.
	manifest := []byte(`{"layers":[{"digest":"sha256:` + strings.Repeat("5", 64) + `","size":1}]}`)
	index := fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":"sha256:%s","size":%d,"annotations":{"org.opencontainers.image.ref.name":"r.example/a:v1"}}]}`,
		ocispec.MediaTypeImageManifest, hexOf(manifest), len(manifest))
	_, err := Import(t.Context(), openLayout(t), bytes.NewReader(tarOf(t,
		tarFile{name: ocilayout.LayoutFile, data: []byte(ocilayout.Layout)}, tarFile{name: ocilayout.IndexFile, data: []byte(index)},
		tarFile{name: "blobs/sha256/" + hexOf(manifest), data: manifest})), Config{})
	assert.ErrorIs(t, err, content.ErrBadIndex)
	assert.ErrorContains(t, err, strings.Repeat("5", 64))
}

// A process that dies during an Import leaves unfinished ingests. The layout removes them
// like other incomplete blobs, when they are a day old or by Prune.
func TestLayoutRemovesWhatADeadImportLeft(t *testing.T) {
	for name, clean := range map[string]func(l *layout.Layout) error{
		"a day later": func(l *layout.Layout) error { return nil },
		"pruned": func(l *layout.Layout) error {
			_, err := l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := openLayout(t)
			im := newImporter(l, Config{})
			tr, err := openTar(bytes.NewReader(tarOf(t, dockerFiles(t, "busybox:1.36")...)), im.holes)
			require.NoError(t, err)
			require.NoError(t, im.readAll(t.Context(), tr)) // the process dies here
			entries, err := os.ReadDir(filepath.Join(l.Dir(), ".pullkit", "ingest"))
			require.NoError(t, err)
			assert.NotEmpty(t, entries)
			now := time.Now()
			if name == "a day later" {
				now = now.Add(25 * time.Hour)
			}
			next, err := layout.Open(l.Dir(), layout.Config{Now: func() time.Time { return now }})
			require.NoError(t, err)
			defer next.Close()
			require.NoError(t, clean(next))
			requireTidy(t, next)
		})
	}
}

// Export writes each container image once into Docker's list, with all its tags. It
// writes nothing else into that list.
func TestExportListsEachImageOnceForDocker(t *testing.T) {
	l := openLayout(t)
	oci := newImage(t, l, "registry.example/oci:v1", "a layer")
	config := put(t, l, mediatype.DockerConfig, []byte(`{"architecture":"amd64","os":"linux"}`))
	layer := put(t, l, "application/vnd.docker.image.rootfs.diff.tar.gzip", []byte("another"))
	manifest := put(t, l, mediatype.DockerManifest, jsonOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": mediatype.DockerManifest, "config": config, "layers": []ocispec.Descriptor{layer},
	}))
	list := put(t, l, mediatype.DockerIndex, jsonOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": mediatype.DockerIndex, "manifests": []ocispec.Descriptor{manifest},
	}))
	// The image is within two indexes, and follows an entry for another architecture that
	// is not stored.
	absent := ocispec.Descriptor{MediaType: mediatype.DockerManifest, Digest: digest.Digest("sha256:" + hexOf([]byte("absent"))), Size: 6}
	deep := put(t, l, ocispec.MediaTypeImageIndex, jsonOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []ocispec.Descriptor{absent, list},
	}))
	artifact := put(t, l, ocispec.MediaTypeImageManifest, jsonOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest,
		"config": put(t, l, "application/vnd.oci.empty.v1+json", []byte("{}")), "layers": []ocispec.Descriptor{put(t, l, "text/plain", []byte("a file"))},
	}))
	for name, desc := range map[string]ocispec.Descriptor{
		"registry.example/docker:v1": manifest, "registry.example/docker:v2": manifest, "registry.example/list:v1": list, "registry.example/deep:v1": deep,
		"registry.example/docker:v2@" + string(manifest.Digest): manifest, "registry.example/artifact:v1": artifact,
	} {
		require.NoError(t, l.Tag(t.Context(), reference.MustParse(name), desc))
	}

	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(exported(t, l))); ; {
		hdr, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		assert.NotContains(t, files, hdr.Name, "each file is written once")
		files[hdr.Name] = must(io.ReadAll(r))
	}
	var images []dockerImage
	require.NoError(t, json.Unmarshal(files["manifest.json"], &images))
	var tags []string
	for _, img := range images {
		tags = append(tags, img.RepoTags...)
		assert.Contains(t, files, img.Config)
		for _, layer := range img.Layers {
			assert.Contains(t, files, layer)
		}
	}
	assert.Len(t, images, 2, "Docker's image, which has several names, and the OCI image")
	assert.ElementsMatch(t, []string{oci.ref.String(), "registry.example/docker:v1", "registry.example/docker:v2", "registry.example/list:v1", "registry.example/deep:v1"}, tags)
	assert.Contains(t, files, ocilayout.BlobName(artifact.Digest), "the artifact is only in index.json")
}
