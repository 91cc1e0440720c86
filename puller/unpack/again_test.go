package unpack

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/newdir"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Files checks a directory that an earlier call has made. A directory that was changed, or that
// was made of something else, is an error and stays as it is.
func TestAChangedDirectoryIsAnErrorAndStays(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, mixed(t)...)
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(name, data string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644))
		}
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		cfg    Config
		is     error // nil if the directory is unchanged
		file   string
		text   string
	}{
		{"nothing", func(*testing.T, string) {}, Config{}, nil, "", ""},
		{"nothing, with Verify", func(*testing.T, string) {}, Config{Verify: true}, nil, "", ""},
		{"times only", func(t *testing.T, dir string) {
			require.NoError(t, os.Chtimes(filepath.Join(dir, "README.md"), old, old))
		}, Config{}, nil, "", ""},
		{"other bytes", write("README.md", "mad red"), Config{}, ErrChanged, "README.md", "other content"},
		{"fewer bytes", write("README.md", "mad"), Config{}, ErrChanged, "README.md", "3 bytes, not 7"},
		{"more bytes", write("README.md", "read me too"), Config{}, ErrChanged, "README.md", "11 bytes"},
		{"other bytes in a file of a tar", write("docs/a.txt", "bbb"), Config{}, ErrChanged, "docs/a.txt", "other content"},
		{"a file more", write("docs/b.txt", "bbb"), Config{}, ErrChanged, "docs/b.txt", "does not have it"},
		{"a file removed", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "empty"))) }, Config{}, ErrChanged, "empty", "missing"},
		{"a directory removed", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "docs", "none"))) }, Config{}, ErrChanged, "docs/none", "missing"},
		{"a file replaced by a directory", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "empty")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
		}, Config{}, ErrChanged, "empty", "type"},
		{"a file replaced by a link to it", func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "README.md"), dir+".moved"))
			require.NoError(t, os.Symlink("../dir.moved", filepath.Join(dir, "README.md")))
		}, Config{}, ErrChanged, "README.md", "type"},
		{"a directory replaced by a link to it", func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "code"), dir+".moved"))
			require.NoError(t, os.Symlink("../dir.moved", filepath.Join(dir, "code")))
		}, Config{}, ErrChanged, "code", "type"},
		{"a link that leads elsewhere", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "docs", "latest")))
			require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "docs", "latest")))
		}, Config{}, ErrChanged, "docs/latest", "leads"},
		{"the mark removed", func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, markName))) }, Config{}, ErrTaken, "", "does not have the file"},
		{"the mark emptied", write(markName, ""), Config{}, ErrTaken, "", "cannot be read"},
		{"a mark of another version", write(markName, `{"version":2}`), Config{}, ErrTaken, "", "cannot be read"},
		{"a mark of another artifact", write(markName, `{"version":1,"manifest":"sha256:00"}`), Config{}, ErrTaken, "", `"sha256:00"`},
		{"another SubPath", func(*testing.T, string) {}, Config{SubPath: "code"}, ErrTaken, "", "SubPath"},
		{"a mark with a name that leaves", write(markName, `{"version":1,"manifest":"`+string(desc.Digest)+`","entries":[{"kind":"f","name":"../x"}]}`), Config{}, ErrTaken, "../x", "lists a name that is not allowed"},
		{"a mark with a bad digest", write(markName, `{"version":1,"manifest":"`+string(desc.Digest)+`","entries":[{"kind":"f","name":"README.md","size":7,"digest":"x"}]}`), Config{}, ErrTaken, "README.md", "lists an invalid digest"},
		{"an empty directory", func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.Mkdir(dir, 0o755))
		}, Config{}, ErrTaken, "", "does not have the file"},
		{"a file", func(t *testing.T, dir string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.WriteFile(dir, []byte("mine"), 0o644))
		}, Config{}, ErrTaken, "", "not a directory"},
		{"a link to the directory", func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(dir, dir+".moved"))
			require.NoError(t, os.Symlink("dir.moved", dir))
		}, Config{}, ErrTaken, "", "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "dir")
			files, err := Files(t.Context(), store, desc, dir, Config{})
			require.NoError(t, err)
			c.change(t, dir)
			before := readTree(t, parent)
			// The store may be empty by now.
			again, err := Files(t.Context(), new(pullertest.MemStore), desc, dir, c.cfg)
			assert.Equal(t, before, readTree(t, parent))
			if c.is == nil {
				require.NoError(t, err)
				assert.Equal(t, files, again)
				return
			}
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.ErrorIs(t, err, c.is)
			assert.Equal(t, c.file, e.File)
			assert.Contains(t, err.Error(), c.text)
			if slices.ContainsFunc(files, func(f File) bool { return f.Name == c.file }) && c.is == ErrChanged {
				assert.NotEmpty(t, e.Layer)
			}
		})
	}
}

// Other content of the same size and with the old modification time is found only with Verify.
func TestVerifyHashesEveryFile(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "aaa"))
	dir := filepath.Join(t.TempDir(), "dir")
	_, err := Files(t.Context(), store, desc, dir, Config{})
	require.NoError(t, err)
	name := filepath.Join(dir, "a")
	info, err := os.Stat(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, []byte("bbb"), 0o644))
	require.NoError(t, os.Chtimes(name, info.ModTime(), info.ModTime()))
	_, err = Files(t.Context(), store, desc, dir, Config{})
	assert.NoError(t, err)
	_, err = Files(t.Context(), store, desc, dir, Config{Verify: true})
	assert.ErrorIs(t, err, ErrChanged)
}

// SubPath makes the directory of a part of the artifact.
func TestSubPathMakesOnlyAPartOfTheArtifact(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store,
		titled("a/b/c", "c"), titled("a/b2", "b2"), titled("top", "top"),
		plain(t, file("a/b/d/e", "e"), file("a/bb/x", "x")))
	for sub, want := range map[string]map[string]string{
		"":        {"a": "/", "a/b": "/", "a/b/c": "c", "a/b2": "b2", "top": "top", "a/b/d": "/", "a/b/d/e": "e", "a/bb": "/", "a/bb/x": "x"},
		".":       {"a": "/", "a/b": "/", "a/b/c": "c", "a/b2": "b2", "top": "top", "a/b/d": "/", "a/b/d/e": "e", "a/bb": "/", "a/bb/x": "x"},
		"a/b":     {"c": "c", "d": "/", "d/e": "e"},
		"./a//b/": {"c": "c", "d": "/", "d/e": "e"},
		"a/b/d":   {"e": "e"},
		"a/bb":    {"x": "x"},
		"a":       {"b": "/", "b/c": "c", "b2": "b2", "b/d": "/", "b/d/e": "e", "bb": "/", "bb/x": "x"},
	} {
		dir := filepath.Join(t.TempDir(), "dir")
		_, err := Files(t.Context(), store, desc, dir, Config{SubPath: sub})
		require.NoError(t, err, sub)
		assert.Equal(t, want, readTree(t, dir), sub)
		_, err = Files(t.Context(), store, desc, dir, Config{SubPath: sub})
		assert.NoError(t, err, sub)
	}
	// Blobs of other files are not read, so they need not be there.
	part := new(pullertest.MemStore)
	body, err := fs.ReadFile(storeFS{store}, string(desc.Digest))
	require.NoError(t, err)
	put(t, part, desc.MediaType, body)
	put(t, part, ocispec.MediaTypeImageLayer, []byte("c"))
	tarBlob := tarOf(t, file("a/b/d/e", "e"), file("a/bb/x", "x"))
	put(t, part, modelTar, tarBlob)
	dir := filepath.Join(t.TempDir(), "dir")
	_, err = Files(t.Context(), part, desc, dir, Config{SubPath: "a/b"})
	require.NoError(t, err)
	assert.Equal(t, []string{"c", "d", "d/e"}, keys(readTree(t, dir)))
}

// A layer without a name gets the default name of its media type, or the name that Config.Name
// returns.
func TestLayersWithoutANameGetOneByTheirMediaType(t *testing.T) {
	store := new(pullertest.MemStore)
	of := func(types ...string) []layer {
		var all []layer
		for i, mediaType := range types {
			all = append(all, layer{mediaType, []byte{byte(i)}, nil})
		}
		return all
	}
	for _, c := range []struct {
		layers []layer
		want   string
	}{
		{of("application/vnd.docker.ai.gguf.v3", "application/vnd.docker.ai.license", "application/vnd.docker.ai.chat.template.jinja"), "model.gguf LICENSE template.jinja"},
		{of("application/vnd.docker.ai.safetensors", "application/vnd.docker.ai.safetensors", "application/vnd.docker.ai.license", "application/vnd.docker.ai.license"),
			"model-00001-of-00002.safetensors model-00002-of-00002.safetensors LICENSE-00001-of-00002 LICENSE-00002-of-00002"},
		{of("application/vnd.ollama.image.model", "application/vnd.ollama.image.template", "application/vnd.ollama.image.params", "application/vnd.ollama.image.projector"), "model.gguf template params.json projector.gguf"},
		{of("application/vnd.cncf.helm.chart.provenance.v1.prov"), "chart.prov"},
		{of("APPLICATION/vnd.docker.ai.GGUF.v3; x=y"), "model.gguf"},
		{append(of("application/vnd.docker.ai.gguf.v3"), layer{"application/vnd.docker.ai.gguf.v3", []byte("named"), map[string]string{annotationPath: "text/model.gguf"}}), "model.gguf text/model.gguf"},
		{[]layer{{modelRaw, []byte("1"), map[string]string{annotationPath: "dir/a", annotationTitle: "a"}}}, "dir/a"},
		{[]layer{{"application/vnd.cnai.model.weight.v1.raw", []byte("1"), map[string]string{annotationOldCN: "dir/b"}}}, "dir/b"},
	} {
		files, err := Files(t.Context(), store, putArtifact(t, store, c.layers...), filepath.Join(t.TempDir(), "dir"), Config{})
		require.NoError(t, err)
		assert.Equal(t, c.want, namesOf(files))
	}
	// Config.Name names only layers that do not have a name.
	name := func(desc ocispec.Descriptor) string {
		if desc.MediaType == "application/wasm" {
			return "module.wasm"
		}
		return ""
	}
	files, err := Files(t.Context(), store, putArtifact(t, store, append(of("application/wasm", "application/vnd.docker.ai.license"), titled("a", "a"))...), filepath.Join(t.TempDir(), "dir"), Config{Name: name})
	require.NoError(t, err)
	assert.Equal(t, "module.wasm LICENSE a", namesOf(files))
	// Ollama writes the names of tensors into the descriptors.
	body := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
		"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"` + string(put(t, store, "", []byte("{}")).Digest) + `","size":2},
		"layers":[{"mediaType":"application/vnd.ollama.image.tensor","digest":"` + string(put(t, store, "", []byte("t")).Digest) + `","size":1,"name":"model.layers.0.weight"}]}`)
	files, err = Files(t.Context(), store, put(t, store, "application/vnd.docker.distribution.manifest.v2+json", body), filepath.Join(t.TempDir(), "dir"), Config{})
	require.NoError(t, err)
	assert.Equal(t, "model.layers.0.weight", namesOf(files))
	// A member "name" in a layer of another media type is ignored.
	ollama := strings.ReplaceAll(string(body), `"model.layers.0.weight"`, "5")
	other := strings.ReplaceAll(ollama, "vnd.ollama.image.tensor", "vnd.example")
	desc := put(t, store, "application/vnd.docker.distribution.manifest.v2+json", []byte(other))
	files, err = Files(t.Context(), store, desc, filepath.Join(t.TempDir(), "dir"), Config{Name: func(ocispec.Descriptor) string { return "b" }})
	require.NoError(t, err)
	assert.Equal(t, "b", namesOf(files))
	desc = put(t, store, "application/vnd.docker.distribution.manifest.v2+json", []byte(ollama))
	_, err = Files(t.Context(), store, desc, filepath.Join(t.TempDir(), "dir"), Config{})
	assert.Equal(t, content.ErrBadManifest, content.ReasonOf(err))
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, digestOf([]byte("t")), e.Layer)
}

// The media type and the annotations of a layer say whether it is a tar.
func TestMediaTypeAndAnnotationsSayWhichLayersAreTars(t *testing.T) {
	title := map[string]string{annotationTitle: "a"}
	unpack := map[string]string{annotationTitle: "a", annotationUnpack: "true"}
	not := map[string]string{annotationUnpack: "false"}
	for _, c := range []struct {
		mediaType   string
		annotations map[string]string
		want        bool
	}{
		{ocispec.MediaTypeImageLayer, title, false},
		{ocispec.MediaTypeImageLayerGzip, title, false},
		{ocispec.MediaTypeImageLayerGzip, unpack, true},
		{"text/plain", unpack, true},
		{modelTar, not, false},
		{ocispec.MediaTypeImageLayerGzip, nil, true},
		{"application/vnd.docker.image.rootfs.diff.tar.gzip", nil, true},
		{"application/vnd.docker.image.rootfs.diff.tar.gzip", title, false},
		{modelTar, nil, true},
		{modelTar, title, true},
		{modelGzip, nil, true},
		{modelGzip + "; a=b", nil, true},
		{modelRaw, nil, false},
		{"application/vnd.cncf.model.weight.v1.tar+zstd", nil, true},
		{"application/vnd.kitops.modelkit.model.v1.tar+gzip", nil, true},
		{"application/vnd.kitops.modelkit.model.v1.tar", nil, true},
		{"application/vnd.docker.ai.vllm.config.tar", nil, true},
		{"application/vnd.docker.ai.dir.tar", nil, true},
		{"application/vnd.cncf.helm.chart.content.v1.tar+gzip", nil, true},
		{"application/vnd.cncf.flux.content.v1.tar+gzip", nil, true},
		{"application/tar+gzip", nil, true},
		{"application/x-tar", nil, true},
		{"application/x-gtar", nil, true},
		{"application/x-tgz", nil, true},
		{"application/vnd.example.v1.tar.gz", nil, true},
		{"application/vnd.example.v1.tar+xz", nil, true}, // which is refused
		{"application/vnd.example.v1.xz", nil, false},
		{"application/vnd.cncf.helm.chart.content.layer.v1+tar", nil, true},
		{"application/vnd.oci.image.layer.v1.tar+gzip+encrypted", nil, false},
		{"application/gzip", nil, false},
		{"application/vnd.star", nil, false},
		{"", nil, false},
	} {
		assert.Equal(t, c.want, isTar(ocispec.Descriptor{MediaType: c.mediaType, Annotations: c.annotations}), "%s %v", c.mediaType, c.annotations)
	}
}

// An index of which one manifest is stored gives the files of that manifest.
func TestAnIndexGivesTheFilesOfItsStoredManifest(t *testing.T) {
	store := new(pullertest.MemStore)
	one, two := putArtifact(t, store, titled("a", "1")), putArtifact(t, store, titled("a", "2"))
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digestOf([]byte("absent")), Size: 6}
	index := func(manifests ...ocispec.Descriptor) ocispec.Descriptor {
		body := `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[`
		for i, m := range manifests {
			if i > 0 {
				body += ","
			}
			body += `{"mediaType":"` + m.MediaType + `","digest":"` + string(m.Digest) + `","size":` + itoa(m.Size) + `}`
		}
		return put(t, store, ocispec.MediaTypeImageIndex, []byte(body+"]}"))
	}
	dir := filepath.Join(t.TempDir(), "dir")
	_, err := Files(t.Context(), store, index(absent, two), dir, Config{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "2"}, readTree(t, dir))
	// The manifest itself gives the same directory.
	_, err = Files(t.Context(), store, two, dir, Config{})
	require.NoError(t, err)
	for name, desc := range map[string]ocispec.Descriptor{"none": index(absent), "two": index(one, two)} {
		_, err = Files(t.Context(), store, desc, filepath.Join(t.TempDir(), "dir"), Config{})
		assert.Equal(t, content.ErrNoPlatform, content.ReasonOf(err), "%s: %v", name, err)
	}
	for name, c := range map[string]struct {
		desc ocispec.Descriptor
		want content.Reason
	}{
		"absent":      {absent, content.ErrNotFound},
		"bad digest":  {ocispec.Descriptor{Digest: "x"}, content.ErrBadDigest},
		"no manifest": {put(t, store, ocispec.MediaTypeImageManifest, []byte("{}")), content.ErrBadManifest},
	} {
		_, err = Files(t.Context(), store, c.desc, filepath.Join(t.TempDir(), "dir"), Config{})
		var e *Error
		require.ErrorAs(t, err, &e, name)
		if c.want == content.ErrNotFound {
			assert.ErrorIs(t, err, fs.ErrNotExist)
			continue
		}
		assert.Equal(t, c.want, content.ReasonOf(err), "%s: %v", name, err)
	}
}

// Several calls make the same directory at the same time. All succeed, and the directory is made
// once.
func TestConcurrentCallsMakeOneDirectoryOnce(t *testing.T) {
	store := openLayout(t)
	desc := putArtifact(t, store, mixed(t)...)
	parent := t.TempDir()
	dir := filepath.Join(parent, "dir")
	var mu sync.Mutex
	renames := 0
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			u := &unpacker{store: store, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
				if op == "rename" {
					mu.Lock()
					defer mu.Unlock()
					renames++
				}
				return nil
			}}
			files, err := u.run(t.Context(), desc)
			assert.NoError(t, err)
			assert.Len(t, files, 10)
		})
	}
	all.Wait()
	assert.Equal(t, 1, renames)
	assert.Equal(t, mixedTree, readTree(t, dir))
	requireOnly(t, parent, "dir")
}

// A call that waits for another call stops when its own context ends.
func TestACallThatWaitsEndsWithItsContext(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	dir := filepath.Join(t.TempDir(), "dir")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the Pod is gone")
	u := &unpacker{store: store, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
		if op != "create" {
			return nil
		}
		done := make(chan error)
		go func() {
			_, err := Files(ctx, store, desc, dir, Config{})
			done <- err
		}()
		cancel(gone)
		assert.Equal(t, gone, <-done)
		return nil
	}}
	_, err := u.run(t.Context(), desc)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"a": "a"}, readTree(t, dir))
}

// A directory that gets the name while the files are made stays as it is.
func TestADirectoryThatAppearsDuringTheCallStays(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	for _, file := range []string{"", "mine"} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "dir")
		u := &unpacker{store: store, dir: dir, clone: clone, noSync: true, before: func(op, name string) error {
			if op == "rename" {
				require.NoError(t, os.Mkdir(dir, 0o755))
				if file != "" {
					require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o644))
				}
			}
			return nil
		}}
		_, err := u.run(t.Context(), desc)
		assert.ErrorIs(t, err, ErrTaken)
		requireOnly(t, parent, "dir")
		if file != "" {
			requireOnly(t, dir, file)
		}
	}
}

// A file, a link or a directory of another program in place of the work directory stays as it is.
func TestSomethingElseInPlaceOfTheWorkDirectoryStays(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	for _, make := range []func(t *testing.T, place string){
		func(t *testing.T, place string) { require.NoError(t, os.WriteFile(place, []byte("mine"), 0o644)) },
		func(t *testing.T, place string) { require.NoError(t, os.Symlink("elsewhere", place)) },
		func(t *testing.T, place string) {
			require.NoError(t, os.Mkdir(place, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(place, "mine"), nil, 0o644))
		},
	} {
		parent := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(parent, "elsewhere"), 0o755))
		make(t, filepath.Join(parent, ".dir"+workSuffix))
		_, err := Files(t.Context(), store, desc, filepath.Join(parent, "dir"), Config{})
		assert.ErrorIs(t, err, ErrTaken)
		requireOnly(t, parent, ".dir"+workSuffix, "elsewhere")
		requireOnly(t, filepath.Join(parent, "elsewhere"))
	}
}

// A directory of another program under the name of a work directory that is being removed stays,
// and the call succeeds.
func TestSomethingElseInPlaceOfTheOldWorkDirectoryStays(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	parent := t.TempDir()
	old := filepath.Join(parent, ".dir"+workSuffix+oldSuffix)
	require.NoError(t, os.Mkdir(old, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(old, "mine"), nil, 0o644))
	for range 2 {
		_, err := Files(t.Context(), store, desc, filepath.Join(parent, "dir"), Config{})
		require.NoError(t, err)
		requireOnly(t, old, "mine")
		assert.NoDirExists(t, filepath.Join(parent, ".dir"+workSuffix, filesName))
	}
}

// ownKey returns the content of the file key of a call that was killed.
func ownKey(manifest digest.Digest) string {
	return string(must(json.Marshal(workKey{Version: markVersion, key: key{Manifest: manifest}, Plan: make([]byte, 32)})))
}

// Files of another program in the work directory, or in a work directory that is being removed,
// keep their bytes, and nothing is added to them, even if they have names of this package. A call
// for a directory that is whole already leaves them too.
func TestFilesOfOthersStayEvenWithNamesOfThisPackage(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	for name, files := range map[string]map[string]string{
		"files without key":     {"files": "/", "files/mine": "1"},
		"files with empty key":  {"files": "/", "files/mine": "1", "key": ""},
		"files and a lock":      {"files": "/", "files/mine": "1", "lock": ""},
		"key of others":         {"key": "secret"},
		"key of another schema": {"key": `{"Version":1}`, "files": "/", "files/mine": "1"},
		"large key":             {"key": strings.Repeat("x", newdir.MaxKey+1)},
		"a directory lock":      {"lock": "/", "lock/mine": "1", "key": ownKey(desc.Digest)},
		"a lock with bytes":     {"lock": "mine", "key": ownKey(desc.Digest)},
		"a file files":          {"files": "mine", "key": ownKey(desc.Digest)},
		"a file of the user":    {"mine": "1"},
		"and own files":         {"mine": "1", "lock": "", "files": "/", "files/a": "a", "key": ownKey(desc.Digest)},
	} {
		for _, suffix := range []string{workSuffix, workSuffix + oldSuffix} {
			t.Run(name+", "+suffix, func(t *testing.T) {
				parent := t.TempDir()
				dir, place := filepath.Join(parent, "dir"), filepath.Join(parent, ".dir"+suffix)
				put := func() {
					require.NoError(t, os.Mkdir(place, 0o755))
					for name, data := range files {
						name = filepath.Join(place, filepath.FromSlash(name))
						require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
						if data == "/" {
							require.NoError(t, os.MkdirAll(name, 0o755))
							continue
						}
						require.NoError(t, os.WriteFile(name, []byte(data), 0o644))
					}
				}
				put()
				_, err := Files(t.Context(), store, desc, dir, Config{})
				if suffix == workSuffix {
					assert.ErrorIs(t, err, ErrTaken)
					requireOnly(t, parent, ".dir"+suffix)
				} else {
					assert.NoError(t, err)
				}
				assert.Equal(t, files, readTree(t, place))

				require.NoError(t, os.RemoveAll(parent))
				require.NoError(t, os.Mkdir(parent, 0o755))
				_, err = Files(t.Context(), store, desc, dir, Config{})
				require.NoError(t, err)
				put()
				_, err = Files(t.Context(), store, desc, dir, Config{})
				require.NoError(t, err)
				assert.Equal(t, files, readTree(t, place))
				requireOnly(t, parent, "dir", ".dir"+suffix)
			})
		}
	}
}

// A symbolic link to a directory is not a work directory, even if the directory has the files of
// one.
func TestRemovalDoesNotFollowALink(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	parent := t.TempDir()
	other := filepath.Join(parent, "other")
	require.NoError(t, os.MkdirAll(filepath.Join(other, filesName), 0o755))
	want := map[string]string{filesName: "/", filesName + "/mine": "1", keyName: ownKey(desc.Digest)}
	require.NoError(t, os.WriteFile(filepath.Join(other, filesName, "mine"), []byte("1"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(other, keyName), []byte(want[keyName]), 0o644))
	require.NoError(t, os.Symlink("other", filepath.Join(parent, ".dir"+workSuffix+oldSuffix)))
	for range 2 {
		_, err := Files(t.Context(), store, desc, filepath.Join(parent, "dir"), Config{})
		require.NoError(t, err)
		assert.Equal(t, want, readTree(t, other))
	}
}

// A call was killed while it removed its work directory, after any step of the removal. The next
// call removes the rest.
func TestRemovalThatWasKilledIsFinished(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	for _, made := range []bool{false, true} {
		for left := range len(ownNames) + 1 {
			parent := t.TempDir()
			dir, old := filepath.Join(parent, "dir"), filepath.Join(parent, ".dir"+workSuffix+oldSuffix)
			if made {
				_, err := Files(t.Context(), store, desc, dir, Config{})
				require.NoError(t, err)
			}
			require.NoError(t, os.Mkdir(old, 0o755))
			for _, name := range ownNames[left:] {
				switch name {
				case filesName:
					require.NoError(t, os.Mkdir(filepath.Join(old, name), 0o755))
					require.NoError(t, os.WriteFile(filepath.Join(old, name, "b"), []byte("b"), 0o644))
				case keyName:
					require.NoError(t, os.WriteFile(filepath.Join(old, name), []byte(ownKey(desc.Digest)), 0o644))
				default:
					require.NoError(t, os.WriteFile(filepath.Join(old, name), nil, 0o644))
				}
			}
			_, err := Files(t.Context(), store, desc, dir, Config{})
			require.NoError(t, err)
			requireOnly(t, parent, "dir")
		}
	}
}

// The call that makes the directory and the call that checks it both use the path that
// filepath.Abs returns.
func TestPathBehindALinkIsTheSameInBothCalls(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	parent := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(parent, "x", "y"), 0o755))
	require.NoError(t, os.Symlink(filepath.Join("x", "y"), filepath.Join(parent, "link")))
	for range 2 {
		_, err := Files(t.Context(), store, desc, parent+"/link/../dir", Config{})
		require.NoError(t, err)
	}
	assert.Equal(t, map[string]string{"a": "a"}, readTree(t, filepath.Join(parent, "dir")))
	requireOnly(t, filepath.Join(parent, "x"), "y")
}

// Two names that the file system takes for the same name are an error.
func TestTwoNamesThatAreOneForTheFileSystemAreAnError(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "readme"), nil, 0o644))
	root := must(os.OpenRoot(dir))
	defer root.Close()
	both := []entry{{Kind: "f", Name: "README"}, {Kind: "f", Name: "readme"}}
	err := compareNames(root, both, "")
	assert.ErrorIs(t, err, ErrTwice)
	assert.ErrorContains(t, err, `"README"`)
	assert.NoError(t, compareNames(root, both[1:], ""))
}

// A call with Link after a call without Link changes nothing. A call without Link after a call
// with Link changes nothing either.
func TestLinkDoesNotChangeADirectoryThatIsThere(t *testing.T) {
	store := openLayout(t)
	desc := putArtifact(t, store, titled("a", "a"))
	for _, link := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "dir")
		_, err := Files(t.Context(), store, desc, dir, Config{Link: link})
		require.NoError(t, err)
		before := must(os.Stat(filepath.Join(dir, "a")))
		_, err = Files(t.Context(), store, desc, dir, Config{Link: !link})
		require.NoError(t, err)
		assert.True(t, os.SameFile(before, must(os.Stat(filepath.Join(dir, "a")))))
	}
}

// With SubPath, the limits count what the comments of Config say.
func TestLimitsCountWithSubPathAsConfigSays(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, plain(t, file("in/a", "aa"), special(tar.TypeLink, "in/b", "in/a"), file("out/c", "cccc"), special(tar.TypeSymlink, "out/l", "/etc")))
	for cfg, want := range map[string]struct {
		Config
		is error
	}{
		"bytes":     {Config{SubPath: "in", MaxBytes: 2}, nil},
		"few bytes": {Config{SubPath: "in", MaxBytes: 1}, ErrTooLarge},
		"files":     {Config{SubPath: "in", MaxFiles: 6}, nil},
		"few files": {Config{SubPath: "in", MaxFiles: 5}, ErrTooLarge},
	} {
		_, err := Files(t.Context(), store, desc, filepath.Join(t.TempDir(), "dir"), want.Config)
		assert.ErrorIs(t, err, want.is, cfg)
	}
}

// A path in a global header is not used for the entries after it.
func TestAGlobalHeaderDoesNotNameFiles(t *testing.T) {
	store := new(pullertest.MemStore)
	global := tarEntry{tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax", PAXRecords: map[string]string{"path": "../x"}}, ""}
	files, err := Files(t.Context(), store, putArtifact(t, store, plain(t, global, file("a", "a"))), filepath.Join(t.TempDir(), "dir"), Config{})
	require.NoError(t, err)
	assert.Equal(t, "a", namesOf(files))
}

// A directory with a name that is reserved, too long or not possible is an error.
func TestDirectoriesThatCannotBeMadeAreErrors(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putArtifact(t, store, titled("a", "a"))
	parent := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(parent, "file"), nil, 0o644))
	for dir, text := range map[string]string{
		"":                                     "is empty",
		string(filepath.Separator):             "cannot be made",
		parent:                                 markName,
		filepath.Join(parent, ".x"+workSuffix): "kept",
		filepath.Join(parent, ".x.PULLKIT"):    "kept",
		filepath.Join(parent, ".x"+workSuffix+".old"):   "kept",
		filepath.Join(parent, strings.Repeat("x", 243)): "243 bytes, more than 242",
		filepath.Join(parent, "file", "dir"):            "",
	} {
		_, err := Files(t.Context(), store, desc, dir, Config{})
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, dir, e.Dir)
		assert.ErrorContains(t, err, text)
	}
	requireOnly(t, parent, "file")
	_, err := Files(t.Context(), store, desc, filepath.Join(parent, strings.Repeat("x", 242)), Config{})
	require.NoError(t, err)
	requireOnly(t, parent, "file", strings.Repeat("x", 242))
}

// A path that goes through a symbolic link to nothing is an error at once. Files does not retry,
// as it does for a directory that another process is removing.
func TestAPathThroughALinkToNothingIsAnErrorAtOnce(t *testing.T) {
	store := new(pullertest.MemStore)
	parent := t.TempDir()
	require.NoError(t, os.Symlink("absent", filepath.Join(parent, "link")))
	for _, dir := range []string{filepath.Join(parent, "link", "dir"), filepath.Join(parent, "link", "a", "dir")} {
		tries := 0
		u := &unpacker{store: store, dir: dir, clone: clone, before: func(string, string) error {
			tries++
			return nil
		}}
		_, err := u.run(t.Context(), putArtifact(t, store, titled("a", "a")))
		assert.ErrorIs(t, err, fs.ErrNotExist)
		assert.Equal(t, 1, tries)
		requireOnly(t, parent, "link")
	}
}

// A storeFS gives the blobs of a store by digest.
type storeFS struct{ store *pullertest.MemStore }

func (s storeFS) Open(string) (fs.File, error) { return nil, fs.ErrNotExist }

func (s storeFS) ReadFile(name string) ([]byte, error) {
	r, err := s.store.Open(context.Background(), ocispec.Descriptor{Digest: digest.Digest(name)})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(r)
}
