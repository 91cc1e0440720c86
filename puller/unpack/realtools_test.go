package unpack

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tool runs a program in a directory, without the machine's configuration.
func tool(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "DOCKER_CONFIG="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir, "XDG_DATA_HOME="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %q: %s", program, args, out)
}

// pullFiles pulls an artifact from a registry, unpacks it with Link and without, and returns its
// files.
func pullFiles(t *testing.T, image string) map[string]string {
	t.Helper()
	store := openLayout(t)
	rt, err := transfer.New(transfer.Config{Store: store})
	require.NoError(t, err)
	p, err := puller.New(puller.Config{Runtime: rt})
	require.NoError(t, err)
	img, err := p.Pull(t.Context(), puller.Request{Image: image})
	require.NoError(t, err)
	desc, err := store.Lookup(t.Context(), img.Ref)
	require.NoError(t, err)
	var trees []map[string]string
	for _, link := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "dir")
		_, err := Files(t.Context(), store, desc, dir, Config{Link: link})
		require.NoError(t, err)
		trees = append(trees, readTree(t, dir))
		_, err = Files(t.Context(), store, desc, dir, Config{Verify: true})
		require.NoError(t, err)
	}
	assert.Equal(t, trees[0], trees[1])
	return trees[0]
}

func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		if target, ok := strings.CutPrefix(data, "-> "); ok {
			require.NoError(t, os.Symlink(target, name))
			continue
		}
		require.NoError(t, os.WriteFile(name, []byte(data), 0o644))
	}
}

// The files and directories of an artifact that oras pushes are those that oras pulls.
func TestFilesAreThoseThatOrasPulls(t *testing.T) {
	oras := realtest.Need(t, "oras")
	reg := realtest.StartRegistry(t, realtest.RegistryConfig{})
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"model.gguf": strings.Repeat("weights", 1000), "empty": "", "data.tar.gz": "not a tar at all",
		"text/config.json": "{}", "text/deep/er/vocab.txt": "a\nb\n", "text/latest": "-> deep/er/vocab.txt",
		"sub/one/file": "1",
	})
	require.NoError(t, os.Mkdir(filepath.Join(dir, "text", "none"), 0o755))
	image := reg.Host + "/models/oras:v1"
	tool(t, dir, oras, "push", "--plain-http", image, "model.gguf:application/x-gguf", "empty", "data.tar.gz", "text", "sub/one")
	pulled := t.TempDir()
	tool(t, pulled, oras, "pull", "--plain-http", image)
	want := readTree(t, pulled)
	assert.Equal(t, "not a tar at all", want["data.tar.gz"])
	assert.Equal(t, "a\nb\n", want["text/deep/er/vocab.txt"])
	assert.Equal(t, want, pullFiles(t, image))

	// The directory in which oras runs:
	image = reg.Host + "/models/oras:v2"
	tool(t, filepath.Join(dir, "sub"), oras, "push", "--plain-http", image, ".")
	assert.Equal(t, map[string]string{"one": "/", "one/file": "1"}, pullFiles(t, image))
}

// An artifact in the format of ModelPack has files and tars. oras writes it, with the media types
// and annotations of the specification, because no writer of ModelPack can be installed as a Go
// module with checksums.
func TestArtifactInTheFormatOfModelPack(t *testing.T) {
	oras := realtest.Need(t, "oras")
	reg := realtest.StartRegistry(t, realtest.RegistryConfig{})
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"config.json": "{}", "a.bin": "weights", "b.json": `{"hidden_size":1}`,
		"annotations.json": `{"a.bin":{"org.cncf.model.filepath":"model/a.safetensors"},"b.json":{"org.cncf.model.filepath":"model/config.json"},"c.tar":{"org.cncf.model.filepath":"code"}}`,
	})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "c.tar"), tarOf(t, file("code/main.py", "print()")), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "d.tgz"), zip(tarOf(t, file("docs/README.md", "# a"))), 0o644))
	image := reg.Host + "/models/pack:v1"
	tool(t, dir, oras, "push", "--plain-http", image, "--artifact-type", "application/vnd.cncf.model.manifest.v1+json",
		"--config", "config.json:application/vnd.cncf.model.config.v1+json", "--annotation-file", "annotations.json",
		"a.bin:application/vnd.cncf.model.weight.v1.raw", "b.json:application/vnd.cncf.model.weight.config.v1.raw",
		"c.tar:application/vnd.cncf.model.code.v1.tar", "d.tgz:application/vnd.cncf.model.doc.v1.tar+gzip")
	assert.Equal(t, map[string]string{
		"model": "/", "model/a.safetensors": "weights", "model/config.json": `{"hidden_size":1}`,
		"code": "/", "code/main.py": "print()", "docs": "/", "docs/README.md": "# a",
	}, pullFiles(t, image))
}

// A chart that helm pushes gives the files that helm pulls and unpacks.
func TestAChartIsWhatHelmPulls(t *testing.T) {
	helm := realtest.Need(t, "helm")
	reg := realtest.StartRegistry(t, realtest.RegistryConfig{})
	dir := t.TempDir()
	tool(t, dir, helm, "create", "app")
	tool(t, dir, helm, "package", "app")
	writeTree(t, dir, map[string]string{"app-0.1.0.tgz.prov": "signed"})
	tool(t, dir, helm, "push", "--plain-http", "app-0.1.0.tgz", "oci://"+reg.Host+"/charts")
	pulled := t.TempDir()
	tool(t, pulled, helm, "pull", "--plain-http", "--untar", "oci://"+reg.Host+"/charts/app", "--version", "0.1.0")
	require.NoError(t, os.RemoveAll(filepath.Join(pulled, "helm"))) // helm's own cache
	got := pullFiles(t, reg.Host+"/charts/app:0.1.0")
	assert.Equal(t, "signed", got["chart.prov"])
	delete(got, "chart.prov")
	want := readTree(t, pulled)
	assert.NotEmpty(t, want["app/Chart.yaml"])
	assert.Equal(t, files(want), files(got)) // helm keeps no empty directories
}

// A model that the tool of Docker's model-runner packs gives the files that were packed. In this
// model, the annotation with the path of a tar is the name of a temporary file, and is not used.
func TestAModelOfDockerModelRunnerHasItsFiles(t *testing.T) {
	mdltool := realtest.Need(t, "mdltool")
	reg := realtest.StartRegistry(t, realtest.RegistryConfig{})
	dir := t.TempDir()
	header := `{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`
	weights := string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header
	model := map[string]string{
		"model-00001-of-00002.safetensors": weights + "12345678", "model-00002-of-00002.safetensors": weights + "abcdefgh",
		"config.json": `{"hidden_size":2}`, "tokenizer.json": "{}", "template.jinja": "{{ prompt }}", "adapters/a/x.bin": "adapter",
	}
	writeTree(t, filepath.Join(dir, "model"), model)
	writeTree(t, dir, map[string]string{"LICENSE.txt": "free"})
	image := reg.Host + "/models/mdl:v1"
	tool(t, dir, mdltool, "--store-path", filepath.Join(dir, "store"), "package", "--tag", image, "--licenses", "LICENSE.txt", "--dir-tar", "adapters", "model")
	model["LICENSE.txt"] = "free"
	assert.Equal(t, model, files(pullFiles(t, image)))
}

// A full disk is an error that matches content.ErrNoSpace, and the call leaves nothing.
func TestAFullDiskIsErrNoSpaceAndLeavesNothing(t *testing.T) {
	realtest.NeedRoot(t, "mounts a file system")
	mount := t.TempDir()
	tool(t, "/", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount)
	t.Cleanup(func() { assert.NoError(t, exec.Command("umount", mount).Run()) })
	large := strings.Repeat("0123456789abcdef", 1<<17)
	for _, l := range []layer{titled("big", large), plain(t, file("big", large))} {
		store := new(pullertest.MemStore)
		_, err := Files(t.Context(), store, putArtifact(t, store, l), filepath.Join(mount, "dir"), Config{})
		assert.ErrorIs(t, err, content.ErrNoSpace)
		var e *Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "big", e.File)
		requireOnly(t, mount)
	}
}

// files returns a tree without its directories.
func files(tree map[string]string) map[string]string {
	all := map[string]string{}
	for name, data := range tree {
		if data != "/" {
			all[name] = data
		}
	}
	return all
}
