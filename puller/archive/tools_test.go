package archive

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
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// realImages is a layout with images that a tool can unpack.
type realImages struct {
	store *layout.Layout
	// In OCI's format: an image, an image by digest, an index with one stored platform,
	// an index with both, and a name whose repository other tools refuse.
	image, digest, index, both, strange reference.Reference
	// In Docker's format.
	dockerImage, dockerIndex reference.Reference
}

func newRealImages(t *testing.T) *realImages {
	r := &realImages{store: openLayout(t)}
	layer := tarOf(t, tarFile{name: "hello.txt", data: []byte("hello")})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(layer)
	require.NoError(t, z.Close())
	blob := put(t, r.store, ocispec.MediaTypeImageLayerGzip, packed.Bytes())
	document := func(mediaType string, members map[string]any) ocispec.Descriptor {
		members["schemaVersion"], members["mediaType"] = 2, mediaType
		return put(t, r.store, mediaType, jsonOf(t, members))
	}
	image := func(manifestType, configType, layerType, arch string) ocispec.Descriptor {
		platform := ocispec.Platform{OS: "linux", Architecture: arch}
		config := put(t, r.store, configType, jsonOf(t, ocispec.Image{
			Platform: platform,
			RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.Digest("sha256:" + hexOf(layer))}},
			History:  []ocispec.History{{CreatedBy: "test"}},
		}))
		layer := blob
		layer.MediaType = layerType
		desc := document(manifestType, map[string]any{"config": config, "layers": []ocispec.Descriptor{layer}})
		desc.Platform = &platform
		return desc
	}
	tag := func(name string, desc ocispec.Descriptor) reference.Reference {
		ref := reference.MustParse(name)
		require.NoError(t, r.store.Tag(t.Context(), ref, desc))
		return ref
	}
	oci := func(arch string) ocispec.Descriptor {
		return image(ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip, arch)
	}
	absent := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest("sha256:" + hexOf([]byte("absent"))), Size: 6,
		Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"},
	}
	amd64 := oci("amd64")
	plain := amd64
	plain.Platform = nil
	r.image = tag("busybox:1.36", plain)
	r.digest = tag("registry.example:5000/team/app:v1@"+string(amd64.Digest), plain)
	r.strange = tag("registry.example/two__parts:v1", plain)
	list := func(mediaType string, manifests ...ocispec.Descriptor) ocispec.Descriptor {
		return document(mediaType, map[string]any{"manifests": manifests})
	}
	r.index = tag("registry.example/team/index:v1", list(ocispec.MediaTypeImageIndex, absent, amd64))
	r.both = tag("registry.example/team/both:v1", list(ocispec.MediaTypeImageIndex, oci("s390x"), amd64))
	docker := image(mediatype.DockerManifest, mediatype.DockerConfig, "application/vnd.docker.image.rootfs.diff.tar.gzip", "amd64")
	absent.MediaType = mediatype.DockerManifest
	r.dockerIndex = tag("registry.example/docker/list:v1", list(mediatype.DockerIndex, absent, docker))
	docker.Platform = nil
	r.dockerImage = tag("registry.example/docker/plain:v1", docker)
	return r
}

// file writes an archive of the named images, or of all images.
func (r *realImages) file(t *testing.T, refs ...reference.Reference) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "images.tar")
	require.NoError(t, os.WriteFile(name, exported(t, r.store, refs...), 0o644))
	return name
}

// config returns the digest of the config of an image of which one platform is stored.
func (r *realImages) config(t *testing.T, ref reference.Reference) digest.Digest {
	t.Helper()
	entries, err := r.store.List(t.Context())
	require.NoError(t, err)
	for _, e := range entries {
		if e.Ref == ref {
			doc, err := ocilayout.Read(t.Context(), r.store, e.Manifest)
			require.NoError(t, err)
			return doc.Config.Digest
		}
	}
	require.Fail(t, "not listed", "%s", ref)
	return ""
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", program, args, out)
	return string(out)
}

// importFile reads an archive that a tool wrote into a new layout.
func importFile(t *testing.T, name string) (*layout.Layout, []string) {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	to := openLayout(t)
	entries, err := Import(t.Context(), to, f, Config{})
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Ref.String())
	}
	return to, names
}

func TestSkopeoReadsAndWritesArchives(t *testing.T) {
	skopeo := realtest.Need(t, "skopeo")
	r := newRealImages(t)
	run(t, skopeo, "--insecure-policy", "copy", "-q", "oci-archive:"+r.file(t, r.image, r.index)+":"+r.index.String(), "dir:"+t.TempDir())
	file := r.file(t)
	for _, ref := range []reference.Reference{r.image, r.index, r.dockerImage, r.dockerIndex} {
		dst := t.TempDir()
		run(t, skopeo, "--insecure-policy", "copy", "-q", "docker-archive:"+file+":"+ref.String(), "dir:"+dst)
		var m ocispec.Manifest
		data, err := os.ReadFile(filepath.Join(dst, "manifest.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &m))
		assert.Len(t, m.Layers, 1)
		assert.Equal(t, r.config(t, ref), m.Config.Digest, "the config of the stored image")
	}
	run(t, skopeo, "--insecure-policy", "copy", "-q", "docker-archive:"+r.file(t, r.dockerIndex), "dir:"+t.TempDir())

	// Import reads what skopeo writes.
	for _, format := range []string{"oci-archive", "docker-archive"} {
		file := filepath.Join(t.TempDir(), "skopeo.tar")
		run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+r.store.Dir()+":"+r.image.String(), format+":"+file+":registry.example/saved:v2")
		to, names := importFile(t, file)
		assert.Equal(t, []string{"registry.example/saved:v2"}, names, format)
		run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+to.Dir()+":registry.example/saved:v2", "dir:"+t.TempDir())
	}
}

// Import refuses a tar of a directory that skopeo wrote with dir:. The error has a
// command that makes an archive.
func TestErrorForADirectoryOfSkopeoHasACommand(t *testing.T) {
	skopeo, program := realtest.Need(t, "skopeo"), realtest.Need(t, "tar")
	r := newRealImages(t)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "images.tar")
	run(t, skopeo, "--insecure-policy", "copy", "-q", "oci:"+r.store.Dir()+":"+r.image.String(), "dir:"+dir)
	run(t, program, "-C", dir, "-cf", file, ".")
	assert.Contains(t, importError(t, string(must(os.ReadFile(file)))), `"skopeo copy dir:DIR oci-archive:FILE:NAME"`)
	require.NoError(t, os.Remove(file))
	run(t, skopeo, "--insecure-policy", "copy", "-q", "dir:"+dir, "oci-archive:"+file+":registry.example/saved:v2")
	_, names := importFile(t, file)
	assert.Equal(t, []string{"registry.example/saved:v2"}, names)
}

// podman loads an archive of one image, and of several images in both formats. Import
// reads what podman saves.
func TestPodmanReadsAndWritesArchives(t *testing.T) {
	podman := realtest.Need(t, "podman")
	realtest.NeedRoot(t, "a store of podman's own needs it")
	r := newRealImages(t)
	for _, some := range [][]reference.Reference{{r.image, r.dockerImage, r.dockerIndex}, {r.dockerImage}, {r.dockerIndex}, {r.image}} {
		dir := realtest.ShortDir(t)
		own := []string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}
		run(t, podman, append(own, "load", "-q", "-i", r.file(t, some...))...)
		out := run(t, podman, append(own, "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")...)
		for _, ref := range some {
			assert.Contains(t, out, ref.String()+" "+string(r.config(t, ref)))
		}
		for _, format := range []string{"docker-archive", "oci-archive"} {
			saved := filepath.Join(t.TempDir(), "saved.tar")
			run(t, podman, append(own, "save", "-q", "--format", format, "-o", saved, some[0].String())...)
			_, names := importFile(t, saved)
			assert.Equal(t, []string{some[0].String()}, names, format)
		}
	}
}

func TestContainerdReadsAndWritesArchives(t *testing.T) {
	ctr, containerd := realtest.Need(t, "ctr"), realtest.Need(t, "containerd")
	realtest.NeedRoot(t, "containerd needs it")
	dir := realtest.ShortDir(t)
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n", dir+"/root", dir+"/state", dir+"/s")
	require.NoError(t, os.WriteFile(dir+"/c.toml", []byte(config), 0o644))
	var log bytes.Buffer
	daemon := exec.Command(containerd, "--config", dir+"/c.toml")
	daemon.Stdout, daemon.Stderr = &log, &log
	require.NoError(t, daemon.Start())
	t.Cleanup(func() { daemon.Process.Kill(); daemon.Wait() })
	ready := false
	for range 200 { // each try takes a while itself
		if ready = exec.CommandContext(t.Context(), ctr, "-a", dir+"/s", "version").Run() == nil; ready {
			break
		}
	}
	require.True(t, ready, "containerd does not answer")

	r := newRealImages(t)
	run(t, ctr, "-a", dir+"/s", "image", "import", "--no-unpack", "--platform", "linux/amd64", r.file(t))
	listed := strings.Fields(run(t, ctr, "-a", dir+"/s", "image", "ls", "-q"))
	for _, ref := range []reference.Reference{r.image, r.digest, r.index, r.both, r.strange, r.dockerImage, r.dockerIndex} {
		assert.Contains(t, listed, ref.String())
	}

	// Import reads what containerd exports.
	file := filepath.Join(t.TempDir(), "exported.tar")
	run(t, ctr, "-a", dir+"/s", "image", "export", "--platform", "linux/amd64", file, r.image.String(), r.index.String())
	_, names := importFile(t, file)
	assert.ElementsMatch(t, []string{r.image.String(), r.index.String()}, names)
}
