package layout_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/archive"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A realImages is a layout with images that a tool can unpack: a manifest, an image by
// digest, an index with one stored platform, and an index with both.
type realImages struct {
	l                                      *layout.Layout
	manifest, digest, index, both, strange reference.Reference
	manifestDigest, arm64Digest            digest.Digest
	indexDigest                            digest.Digest
}

func newRealImages(t *testing.T) *realImages {
	r := &realImages{l: openTest(t, t.TempDir())}
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		desc := descOf(mediaType, data)
		require.NoError(t, (&testPuller{l: r.l}).blob(t.Context(), desc, data))
		return desc
	}
	layer := tarOf(t, "hello.txt", "hello")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(layer)
	require.NoError(t, z.Close())
	image := func(arch string, stored bool) ocispec.Descriptor {
		add := put
		if !stored {
			add = descOf
		}
		platform := ocispec.Platform{OS: "linux", Architecture: arch}
		config := add(ocispec.MediaTypeImageConfig, jsonOf(t, ocispec.Image{
			Platform: platform,
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.Digest("sha256:" + hexOf(layer))}},
			History:  []ocispec.History{{CreatedBy: "test"}},
		}))
		desc := add(ocispec.MediaTypeImageManifest, jsonOf(t, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: config, Layers: []ocispec.Descriptor{put(ocispec.MediaTypeImageLayerGzip, packed.Bytes())},
		}))
		desc.Platform = &platform
		return desc
	}
	tag := func(name string, desc ocispec.Descriptor) reference.Reference {
		ref := reference.MustParse(name)
		require.NoError(t, r.l.Tag(t.Context(), ref, desc))
		return ref
	}
	index := func(manifests ...ocispec.Descriptor) ocispec.Descriptor {
		return put(ocispec.MediaTypeImageIndex, jsonOf(t, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests,
		}))
	}
	manifest := image("amd64", true)
	r.manifestDigest = manifest.Digest
	r.manifest = tag("busybox:1.36", manifest)
	r.digest = tag("registry.example:5000/team/app:v1@"+string(manifest.Digest), manifest)
	r.strange = tag("registry.example/two__parts:v1", manifest)
	arm64 := image("arm64", false)
	r.arm64Digest = arm64.Digest
	one := index(arm64, manifest)
	r.indexDigest = one.Digest
	r.index = tag("registry.example/team/index:v1", one)
	r.both = tag("registry.example/team/both:v1", index(image("s390x", true), manifest))
	return r
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", program, args, out)
	return string(out)
}

func TestSkopeoReadsAllImages(t *testing.T) {
	skopeo := realtest.Need(t, "skopeo")
	r := newRealImages(t)
	before := must(os.ReadFile(filepath.Join(r.l.Dir(), indexName)))
	for _, tt := range []struct {
		ref  reference.Reference
		all  bool // copy --all
		want digest.Digest
	}{
		{r.manifest, true, r.manifestDigest},
		{r.digest, true, r.manifestDigest},
		{r.index, true, r.manifestDigest},
		{r.both, false, r.manifestDigest},
		{r.both, true, ""},
	} {
		t.Run(fmt.Sprintf("%s all %v", tt.ref, tt.all), func(t *testing.T) {
			dst := t.TempDir()
			args := []string{"--insecure-policy", "--override-os", "linux", "--override-arch", "amd64", "copy", "-q"}
			if tt.all {
				args = append(args, "--all")
			}
			run(t, skopeo, append(args, "oci:"+r.l.Dir()+":"+tt.ref.String(), "dir:"+dst)...)
			manifest := must(os.ReadFile(filepath.Join(dst, "manifest.json")))
			if tt.want != "" {
				assert.Equal(t, string(tt.want), "sha256:"+hexOf(manifest))
			}
		})
	}
	// Skopeo writes an image into the layout. Skopeo and Lookup find it.
	run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+r.l.Dir()+":"+r.manifest.String(), "oci:"+r.l.Dir()+":registry.example/copy:v1")
	got, err := r.l.Lookup(t.Context(), reference.MustParse("registry.example/copy:v1"))
	require.NoError(t, err)
	assert.Equal(t, r.manifestDigest, got.Digest)
	got, err = r.l.Lookup(t.Context(), r.index)
	require.NoError(t, err)
	assert.Equal(t, r.indexDigest, got.Digest, "skopeo keeps our entries")
	assert.NotEqual(t, before, must(os.ReadFile(filepath.Join(r.l.Dir(), indexName))))
}

func TestUmociUnpacksImages(t *testing.T) {
	umoci := realtest.Need(t, "umoci")
	r := newRealImages(t)
	for _, ref := range []reference.Reference{r.manifest, r.digest, r.index} {
		bundle := filepath.Join(t.TempDir(), "bundle")
		run(t, umoci, "raw", "unpack", "--rootless", "--image", r.l.Dir()+":"+ref.String(), bundle)
		assert.Equal(t, "hello", string(must(os.ReadFile(filepath.Join(bundle, "hello.txt")))), ref)
	}
	listed := strings.Fields(run(t, umoci, "ls", "--layout", r.l.Dir()))
	for _, ref := range []reference.Reference{r.manifest, r.digest, r.index, r.both, r.strange} {
		assert.Contains(t, listed, ref.String())
	}
	// umoci's garbage collection keeps the blobs of images that index.json shows.
	_, err := r.l.Remove(t.Context(), r.both)
	require.NoError(t, err)
	_, desc := blobOf(5, 600<<10)
	in, err := r.l.Ingest(t.Context(), desc)
	require.NoError(t, err)
	run(t, umoci, "gc", "--layout", r.l.Dir())
	require.NoError(t, in.Close())
	for _, ref := range []reference.Reference{r.manifest, r.digest} {
		got, err := r.l.Lookup(t.Context(), ref)
		require.NoError(t, err)
		ok, err := isWhole(t, r.l, got), error(nil)
		require.NoError(t, err)
		assert.True(t, ok, ref)
	}
}

// For an index of which one image is stored, index.json shows the image to other tools.
func TestIndexIsShownAsItsImage(t *testing.T) {
	r := newRealImages(t)
	var index ocispec.Index
	require.NoError(t, json.Unmarshal(must(os.ReadFile(filepath.Join(r.l.Dir(), indexName))), &index))
	for _, tt := range []struct {
		ref  reference.Reference
		want string // media type
	}{
		{r.manifest, ocispec.MediaTypeImageManifest},
		{r.index, ocispec.MediaTypeImageManifest},
		{r.both, ocispec.MediaTypeImageIndex},
	} {
		found := 0
		for _, m := range index.Manifests {
			if m.Annotations[ocispec.AnnotationRefName] == tt.ref.String() {
				found++
				assert.Equal(t, tt.ref.String(), m.Annotations[ocilayout.AnnotationImage])
				assert.Equal(t, tt.want, m.MediaType, tt.ref)
			}
		}
		assert.Equal(t, 1, found, tt.ref)
	}
	got, err := r.l.Lookup(t.Context(), r.index)
	require.NoError(t, err)
	assert.Equal(t, r.indexDigest, got.Digest)
	assert.Equal(t, ocispec.MediaTypeImageIndex, got.MediaType)
	assert.Nil(t, got.Annotations)
}

// tarOf returns a tar of one file.
func tarOf(t testing.TB, name, data string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}))
	_, err := w.Write([]byte(data))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// entriesOf returns the digests of the entries of index.json by their ref.name, as every
// tool reads them.
func entriesOf(t *testing.T, l *layout.Layout) map[string]digest.Digest {
	t.Helper()
	var index ocispec.Index
	require.NoError(t, json.Unmarshal(must(os.ReadFile(filepath.Join(l.Dir(), indexName))), &index))
	all := make(map[string]digest.Digest)
	for _, m := range index.Manifests {
		all[m.Annotations[ocispec.AnnotationRefName]] = m.Digest
	}
	return all
}

// skopeoReads returns the digest of the manifest that skopeo copies under a name.
func skopeoReads(t *testing.T, skopeo string, l *layout.Layout, name string) digest.Digest {
	t.Helper()
	dst := t.TempDir()
	run(t, skopeo, "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64", "copy", "-q", "oci:"+l.Dir()+":"+name, "dir:"+dst)
	return digest.Digest("sha256:" + hexOf(must(os.ReadFile(filepath.Join(dst, "manifest.json")))))
}

// requireToolsKept pulls the image again, as after a change in the registry, removes it,
// and prunes. Each time, the entries of the tool stay.
func requireToolsKept(t *testing.T, l *layout.Layout, ref reference.Reference, names ...string) {
	t.Helper()
	wrote := entriesOf(t, l)
	check := func(when string) {
		t.Helper()
		now, listed := entriesOf(t, l), make(map[string]digest.Digest)
		images, err := l.List(t.Context())
		require.NoError(t, err)
		for _, img := range images {
			listed[img.Name] = img.Manifest.Digest
		}
		for _, name := range names {
			require.NotEmpty(t, wrote[name], "the tool wrote %q", name)
			assert.Equal(t, wrote[name], now[name], "%s: %q in index.json", when, name)
			assert.Equal(t, wrote[name], listed[name], "%s: %q in List", when, name)
			data := must(os.ReadFile(filepath.Join(l.Dir(), filepath.FromSlash(ocilayout.BlobName(wrote[name])))))
			doc := must(ocilayout.ParseDocument(data))
			for _, part := range doc.Parts() {
				assert.FileExists(t, pathOf(l, part), "%s: %q", when, name)
			}
		}
	}
	check("written")
	next := newTestImage(t, ref.String(), 77, 500)
	require.NoError(t, (&testPuller{l: l}).pull(t.Context(), next)) // as Always does
	got, err := l.Lookup(t.Context(), ref)
	require.NoError(t, err)
	assert.Equal(t, next.index.Digest, got.Digest)
	check("pulled again")
	_, err = l.Remove(t.Context(), ref)
	require.NoError(t, err)
	_, err = l.Lookup(t.Context(), ref)
	assert.ErrorIs(t, err, content.ErrNotFound)
	check("removed")
	_, err = l.Prune(t.Context(), layout.PruneConfig{MinAge: -1})
	require.NoError(t, err)
	check("pruned")
	requireWhole(t, l)
}

// Images that a user makes with umoci in the layout, from a manifest and from an index,
// stay. Lookup returns the image that skopeo reads.
func TestImagesThatUmociDerivesAreKept(t *testing.T) {
	umoci, skopeo := realtest.Need(t, "umoci"), realtest.Need(t, "skopeo")
	for kind, of := range map[string]func(*realImages) reference.Reference{
		"manifest": func(r *realImages) reference.Reference { return r.manifest },
		"index":    func(r *realImages) reference.Reference { return r.index },
	} {
		t.Run(kind, func(t *testing.T) {
			r := newRealImages(t)
			ref := of(r)
			image := r.l.Dir() + ":" + ref.String()
			run(t, umoci, "tag", "--image", image, "backup")
			run(t, umoci, "tag", "--image", image, ref.Tag())
			run(t, umoci, "tag", "--image", image, "registry.example/mine/tagged:v1")
			run(t, umoci, "config", "--image", image, "--tag", "mine", "--config.label", "a=b")
			run(t, umoci, "config", "--image", image, "--config.label", "c=d") // in place
			got, err := r.l.Lookup(t.Context(), ref)
			require.NoError(t, err)
			assert.Equal(t, skopeoReads(t, skopeo, r.l, ref.String()), got.Digest, "changed in place")
			got, err = r.l.Lookup(t.Context(), reference.MustParse("registry.example/mine/tagged:v1"))
			require.NoError(t, err)
			shown := entriesOf(t, r.l)["registry.example/mine/tagged:v1"]
			assert.Equal(t, skopeoReads(t, skopeo, r.l, "registry.example/mine/tagged:v1"), shown)
			if kind == "manifest" {
				assert.Equal(t, shown, got.Digest)
			}
			requireToolsKept(t, r.l, ref, "backup", ref.Tag(), "registry.example/mine/tagged:v1", "mine")
			listed := strings.Fields(run(t, umoci, "ls", "--layout", r.l.Dir()))
			for _, name := range []string{"backup", ref.Tag(), "mine"} {
				assert.Contains(t, listed, name)
			}
		})
	}
}

func TestCopiesBySkopeoWithinALayoutAreKept(t *testing.T) {
	skopeo := realtest.Need(t, "skopeo")
	r := newRealImages(t)
	names := []string{"backup", "docker.io/other:v1", "registry.example/copy:v1"}
	for _, name := range names {
		run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+r.l.Dir()+":"+r.index.String(), "oci:"+r.l.Dir()+":"+name)
	}
	for _, name := range names[1:] {
		got, err := r.l.Lookup(t.Context(), reference.MustParse(name))
		require.NoError(t, err)
		assert.Equal(t, skopeoReads(t, skopeo, r.l, name), got.Digest, name)
	}
	requireToolsKept(t, r.l, r.index, names...)
}

func TestTagsOfOrasAreKept(t *testing.T) {
	oras, skopeo := realtest.Need(t, "oras"), realtest.Need(t, "skopeo")
	r := newRealImages(t)
	at := r.l.Dir() + "@" + string(r.manifestDigest)
	run(t, oras, "tag", "--oci-layout", at, "backup")
	run(t, oras, "tag", "--oci-layout", at, r.manifest.Tag())
	run(t, oras, "copy", "--from-oci-layout", at, "--to-oci-layout", r.l.Dir()+":copied")
	got, err := r.l.Lookup(t.Context(), r.manifest)
	require.NoError(t, err)
	assert.Equal(t, skopeoReads(t, skopeo, r.l, r.manifest.String()), got.Digest)
	requireToolsKept(t, r.l, r.manifest, "backup", r.manifest.Tag(), "copied")
}

// regctl collects garbage whenever it writes. It removes an index that only
// AnnotationResolved names, and keeps the index's image, which index.json shows.
func TestImagesThatRegctlMakesAreKept(t *testing.T) {
	regctl, skopeo := realtest.Need(t, "regctl"), realtest.Need(t, "skopeo")
	r := newRealImages(t)
	at := "ocidir://" + r.l.Dir() + "@" + string(r.manifestDigest)
	run(t, regctl, "image", "copy", at, "ocidir://"+r.l.Dir()+":backup")
	run(t, regctl, "image", "mod", at, "--create", "ocidir://"+r.l.Dir()+":mine", "--label", "a=b")
	for _, ref := range []reference.Reference{r.manifest, r.index} {
		got, err := r.l.Lookup(t.Context(), ref)
		require.NoError(t, err)
		assert.Equal(t, skopeoReads(t, skopeo, r.l, ref.String()), got.Digest, ref)
	}
	requireToolsKept(t, r.l, r.index, "backup", "mine")
	// regctl takes the text after the last colon for the tag. Of two images with the same
	// tag, it reads one.
	assert.NotContains(t, run(t, regctl, "tag", "ls", "ocidir://"+r.l.Dir()), "team/")
}

// newDockerImages makes a layout with images as many registries have them: a manifest and
// a list in Docker's format, and an OCI image.
func newDockerImages(t *testing.T) (l *layout.Layout, refs []reference.Reference) {
	r := newRealImages(t)
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		desc := descOf(mediaType, data)
		require.NoError(t, (&testPuller{l: r.l}).blob(t.Context(), desc, data))
		return desc
	}
	// These are the config and layer of the OCI manifest, with Docker's media types.
	doc := must(ocilayout.ParseDocument(must(os.ReadFile(filepath.Join(r.l.Dir(), filepath.FromSlash(ocilayout.BlobName(r.manifestDigest)))))))
	config, layer := *doc.Config, doc.Layers[0]
	config.MediaType, layer.MediaType = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"
	manifest := put(mediatype.DockerManifest, jsonOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": mediatype.DockerManifest, "config": config, "layers": []ocispec.Descriptor{layer},
	}))
	absent := descOf(mediatype.DockerManifest, []byte("of another platform"))
	absent.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	listed := manifest
	listed.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	list := put(mediatype.DockerIndex, jsonOf(t, map[string]any{
		"schemaVersion": 2, "mediaType": mediatype.DockerIndex, "manifests": []ocispec.Descriptor{absent, listed},
	}))
	refs = []reference.Reference{reference.MustParse("registry.example/docker/plain:v1"), reference.MustParse("registry.example/docker/list:v1")}
	require.NoError(t, r.l.Tag(t.Context(), refs[0], manifest))
	require.NoError(t, r.l.Tag(t.Context(), refs[1], list))
	for _, ref := range []reference.Reference{r.digest, r.strange, r.both, r.index} {
		_, err := r.l.Remove(t.Context(), ref)
		require.NoError(t, err)
	}
	return r.l, append(refs, r.manifest)
}

// exportFile writes an archive of all images.
func exportFile(t *testing.T, l *layout.Layout, refs ...reference.Reference) string {
	t.Helper()
	var exported bytes.Buffer
	require.NoError(t, archive.Export(t.Context(), l, &exported, refs...))
	name := filepath.Join(t.TempDir(), "images.tar")
	require.NoError(t, os.WriteFile(name, exported.Bytes(), 0o644))
	return name
}

// New versions of skopeo read a layout with Docker's manifests in place. Old versions,
// such as those of Debian 12, return an error, which the package's documentation quotes.
// Tests of package archive show that all of them read its archives.
func TestSkopeoReadsOrRefusesDockerManifests(t *testing.T) {
	skopeo := realtest.Need(t, "skopeo")
	l, refs := newDockerImages(t)
	for _, ref := range refs[:2] {
		out, err := exec.CommandContext(t.Context(), skopeo, "--insecure-policy", "copy", "-q", "oci:"+l.Dir()+":"+ref.String(), "dir:"+t.TempDir()).CombinedOutput()
		if err != nil {
			assert.Contains(t, string(out), "no descriptor found")
		}
	}
}

// umoci refuses Docker's manifests, but reads what skopeo makes of the archive.
func TestUmociReadsWhatSkopeoMakesOfAnArchive(t *testing.T) {
	umoci, skopeo := realtest.Need(t, "umoci"), realtest.Need(t, "skopeo")
	l, refs := newDockerImages(t)
	file, oci := exportFile(t, l), t.TempDir()
	for _, ref := range refs {
		run(t, skopeo, "--insecure-policy", "copy", "-q", "docker-archive:"+file+":"+ref.String(), "oci:"+oci+":"+ref.Tag())
		bundle := filepath.Join(t.TempDir(), "bundle")
		run(t, umoci, "raw", "unpack", "--rootless", "--image", oci+":"+ref.Tag(), bundle)
		assert.Equal(t, "hello", string(must(os.ReadFile(filepath.Join(bundle, "hello.txt")))), ref)
	}
	listed := strings.Fields(run(t, umoci, "ls", "--layout", l.Dir()))
	assert.Contains(t, listed, refs[0].String())
	run(t, umoci, "gc", "--layout", l.Dir())
	got, err := l.Lookup(t.Context(), refs[0])
	require.NoError(t, err)
	ok, err := isWhole(t, l, got), error(nil)
	require.NoError(t, err)
	assert.True(t, ok, "its garbage collection takes nothing of an image in Docker's format")
}
