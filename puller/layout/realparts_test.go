package layout

import (
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
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// realImages fills a layout with images that a tool can unpack: as a manifest,
// by digest, as an index with one platform stored, and as one with both.
type realImages struct {
	l                                      *Layout
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
	layer := tarOf(t, tarFile{name: "hello.txt", data: []byte("hello")})
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

func TestSkopeoReads(t *testing.T) {
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
	// What skopeo writes into the layout, it finds there, and so do we.
	run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+r.l.Dir()+":"+r.manifest.String(), "oci:"+r.l.Dir()+":registry.example/copy:v1")
	got, err := r.l.Lookup(t.Context(), reference.MustParse("registry.example/copy:v1"))
	require.NoError(t, err)
	assert.Equal(t, r.manifestDigest, got.Digest)
	got, err = r.l.Lookup(t.Context(), r.index)
	require.NoError(t, err)
	assert.Equal(t, r.indexDigest, got.Digest, "skopeo keeps our entries")
	assert.NotEqual(t, before, must(os.ReadFile(filepath.Join(r.l.Dir(), indexName))))

	// An archive of ours and one of skopeo's.
	archive := filepath.Join(t.TempDir(), "images.tar")
	var buf bytes.Buffer
	require.NoError(t, r.l.Export(t.Context(), &buf, r.manifest, r.index))
	require.NoError(t, os.WriteFile(archive, buf.Bytes(), 0o644))
	run(t, skopeo, "--insecure-policy", "copy", "-q", "oci-archive:"+archive+":"+r.index.String(), "dir:"+t.TempDir())
	for _, format := range []string{"oci-archive", "docker-archive"} {
		archive := filepath.Join(t.TempDir(), "skopeo.tar")
		run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+r.l.Dir()+":"+r.manifest.String(), format+":"+archive+":registry.example/saved:v2")
		l := openTest(t, t.TempDir())
		images, err := l.Import(t.Context(), bytes.NewReader(must(os.ReadFile(archive))), ImportConfig{})
		require.NoError(t, err, format)
		require.Len(t, images, 1, format)
		assert.Equal(t, "registry.example/saved:v2", images[0].Ref.String(), format)
		run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+l.Dir()+":registry.example/saved:v2", "dir:"+t.TempDir())
	}
}

func TestUmociReads(t *testing.T) {
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
	// Its garbage collection takes nothing that our images show.
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
		ok, err := r.l.complete(t.Context(), got)
		require.NoError(t, err)
		assert.True(t, ok, ref)
	}
}

func TestContainerdImports(t *testing.T) {
	ctr, containerd := realtest.Need(t, "ctr"), realtest.Need(t, "containerd")
	realtest.NeedRoot(t, "containerd needs it")
	r := newRealImages(t)
	dir := must(os.MkdirTemp("", "cd")) // short, for the socket
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n", dir+"/root", dir+"/state", dir+"/s")
	require.NoError(t, os.WriteFile(dir+"/c.toml", []byte(config), 0o644))
	logFile, err := os.Create(dir + "/log")
	require.NoError(t, err)
	defer logFile.Close()
	daemon := exec.Command(containerd, "--config", dir+"/c.toml")
	daemon.Stdout, daemon.Stderr = logFile, logFile
	require.NoError(t, daemon.Start())
	t.Cleanup(func() { daemon.Process.Kill(); daemon.Wait() })
	ready := false
	for range 200 { // each try takes a while itself
		if ready = exec.CommandContext(t.Context(), ctr, "-a", dir+"/s", "version").Run() == nil; ready {
			break
		}
	}
	require.True(t, ready, "containerd: %s", must(os.ReadFile(dir+"/log")))

	archive := filepath.Join(t.TempDir(), "images.tar")
	var buf bytes.Buffer
	require.NoError(t, r.l.Export(t.Context(), &buf))
	require.NoError(t, os.WriteFile(archive, buf.Bytes(), 0o644))
	run(t, ctr, "-a", dir+"/s", "image", "import", "--no-unpack", "--platform", "linux/amd64", archive)
	listed := strings.Fields(run(t, ctr, "-a", dir+"/s", "image", "ls", "-q"))
	for _, ref := range []reference.Reference{r.manifest, r.digest, r.index, r.both, r.strange} {
		assert.Contains(t, listed, ref.String())
	}

	// Docker's manifests as well.
	docker, refs := newDockerImages(t)
	run(t, ctr, "-a", dir+"/s", "image", "import", "--no-unpack", "--platform", "linux/amd64", exportFile(t, docker))
	listed = strings.Fields(run(t, ctr, "-a", dir+"/s", "image", "ls", "-q"))
	for _, ref := range refs {
		assert.Contains(t, listed, ref.String())
	}

	// And what containerd exports, Import reads.
	exported := filepath.Join(t.TempDir(), "exported.tar")
	run(t, ctr, "-a", dir+"/s", "image", "export", "--platform", "linux/amd64", exported, r.manifest.String(), r.index.String())
	l := openTest(t, t.TempDir())
	images, err := l.Import(t.Context(), bytes.NewReader(must(os.ReadFile(exported))), ImportConfig{})
	require.NoError(t, err)
	var names []string
	for _, img := range images {
		names = append(names, img.Ref.String())
	}
	assert.ElementsMatch(t, []string{r.manifest.String(), r.index.String()}, names)
}

// What the tools are shown for an index of which one image is stored.
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
