package unpack

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/newdir"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	modelTar  = "application/vnd.cncf.model.weight.v1.tar"
	modelGzip = "application/vnd.cncf.model.code.v1.tar+gzip"
	modelRaw  = "application/vnd.cncf.model.weight.config.v1.raw"
)

// mixed has a layer of each kind.
func mixed(t testing.TB) []layer {
	exec := file("docs/run.sh", "#!/bin/sh\n")
	exec.Mode = 0o4775
	return []layer{
		titled("README.md", "read me"),
		titled("empty", ""),
		{modelRaw, []byte(`{"a":1}`), map[string]string{annotationPath: "model/config.json"}},
		packed("docs", tarOf(t, special(tar.TypeDir, "docs/", ""), exec, file("docs/a.txt", "aaa"), special(tar.TypeDir, "docs/none", ""),
			special(tar.TypeSymlink, "docs/latest", "a.txt"), special(tar.TypeSymlink, "docs/up", ".."), special(tar.TypeLink, "docs/again", "docs/a.txt"))),
		{modelTar, tarOf(t, file("./model/weights.bin", "wwwwwwww")), nil},
		{modelGzip, zip(tarOf(t, file("code/main.py", "print()"))), nil},
		{ocispec.MediaTypeEmptyJSON, []byte("{}"), nil},
	}
}

var mixedTree = map[string]string{
	"README.md": "read me", "empty": "", "model": "/", "model/config.json": `{"a":1}`, "model/weights.bin": "wwwwwwww",
	"docs": "/", "docs/run.sh": "#!/bin/sh\n", "docs/a.txt": "aaa", "docs/again": "aaa", "docs/none": "/", "docs/latest": "-> a.txt", "docs/up": "-> ..",
	"code": "/", "code/main.py": "print()",
}

func TestFilesWritesAllLayers(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "a", "out")
			desc := putArtifact(t, store, mixed(t)...)
			files, err := Files(t.Context(), store, desc, dir, Config{})
			require.NoError(t, err)
			assert.Equal(t, mixedTree, readTree(t, dir))
			assert.Equal(t, "README.md empty model/config.json docs/run.sh docs/a.txt docs/latest docs/up docs/again model/weights.bin code/main.py", namesOf(files))
			assert.Equal(t, File{Name: "README.md", Layer: digestOf([]byte("read me")), Size: 7, Digest: digestOf([]byte("read me"))}, files[0])
			assert.Equal(t, digestOf([]byte("aaa")), files[4].Digest)
			assert.Equal(t, "a.txt", files[5].Link)
			requireOnly(t, filepath.Join(parent, "a"), "out")

			info, err := os.Lstat(filepath.Join(dir, "docs", "run.sh"))
			require.NoError(t, err)
			assert.Zero(t, info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky))
			assert.NotZero(t, info.Mode()&0o100)
			info, err = os.Lstat(filepath.Join(dir, "docs", "none"))
			require.NoError(t, err)
			assert.Zero(t, info.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|0o022), "%s", info.Mode())

			// A second call writes nothing and returns the same files.
			again, err := (&unpacker{store: store, dir: dir, clone: clone, before: func(op, name string) error {
				assert.Fail(t, "the second call changes a file", "%s %s", op, name)
				return nil
			}}).run(t.Context(), desc)
			require.NoError(t, err)
			assert.Equal(t, files, again)
		})
	}
}

// An artifact of many files is synced as a whole file system, and not file by file.
func TestAnArtifactOfManyFilesIsWhole(t *testing.T) {
	store := new(pullertest.MemStore)
	var entries []tarEntry
	want := map[string]string{}
	for i := range 2 * newdir.SyncEach {
		name := fmt.Sprintf("file%d", i)
		entries = append(entries, file(name, name))
		want[name] = name
	}
	dir := filepath.Join(t.TempDir(), "dir")
	files, err := Files(t.Context(), store, putArtifact(t, store, plain(t, entries...)), dir, Config{})
	require.NoError(t, err)
	assert.Len(t, files, 2*newdir.SyncEach)
	assert.Equal(t, want, readTree(t, dir))
}

// A directory may be in several tars, and twice in one. Modes are those of new files, with the
// umask, and not those in the tar.
func TestDirectoriesThatSeveralTarsHave(t *testing.T) {
	store := new(pullertest.MemStore)
	mode := func(e tarEntry, mode int64) tarEntry {
		e.Mode = mode
		return e
	}
	desc := putArtifact(t, store,
		plain(t, mode(special(tar.TypeDir, "d/", ""), 0o700), mode(file("d/a", "1"), 0o4711), special(tar.TypeDir, "d", ""), mode(file("d/b", "2"), 0o055)),
		plain(t, mode(special(tar.TypeDir, "d/", ""), 0o2777), mode(file("d/c", "3"), 0o600)))
	parent := t.TempDir()
	_, err := Files(t.Context(), store, desc, filepath.Join(parent, "dir"), Config{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"d": "/", "d/a": "1", "d/b": "2", "d/c": "3"}, readTree(t, filepath.Join(parent, "dir")))

	require.NoError(t, os.Mkdir(filepath.Join(parent, "new"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(parent, "program"), nil, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(parent, "file"), nil, 0o644))
	for name, like := range map[string]string{"": "new", "d": "new", "d/a": "program", "d/b": "file", "d/c": "file"} {
		want, err := os.Lstat(filepath.Join(parent, like))
		require.NoError(t, err)
		got, err := os.Lstat(filepath.Join(parent, "dir", name))
		require.NoError(t, err)
		assert.Equal(t, want.Mode(), got.Mode(), "%q", name)
	}
}
