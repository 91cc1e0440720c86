package unpack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Any bytes are either refused as a tar, and then nothing is left, or they give a directory whose
// regular files are those that package archive/tar reads.
func FuzzTar(f *testing.F) {
	for _, fault := range faults {
		for _, l := range fault.layers(f) {
			if len(l.data) < 8<<10 {
				f.Add(l.data)
			}
		}
	}
	for _, l := range mixed(f) {
		f.Add(l.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		store := new(pullertest.MemStore)
		desc := putArtifact(t, store, layer{modelTar, data, nil})
		parent := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(parent, "x"), []byte("mine"), 0o644))
		dir := filepath.Join(parent, "dir")
		u := &unpacker{store: store, cfg: Config{MaxFiles: 50, MaxBytes: 1 << 20}, dir: dir, clone: clone, noSync: true}
		_, err := u.run(context.Background(), desc)
		if err != nil {
			var e *Error
			require.ErrorAs(t, err, &e)
			requireOnly(t, parent, "x")
			return
		}
		requireOnly(t, parent, "x", "dir")
		require.Equal(t, "mine", string(must(os.ReadFile(filepath.Join(parent, "x")))))
		want := plainFiles(t, data)
		root := must(os.OpenRoot(dir))
		defer root.Close()
		require.NoError(t, fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			require.NoError(t, err)
			info, err := d.Info()
			require.NoError(t, err)
			mode := info.Mode()
			assert.Zero(t, mode&^(fs.ModePerm|fs.ModeDir|fs.ModeSymlink), "%s has mode %s", name, mode)
			if mode&fs.ModeSymlink != 0 {
				_, err := root.Stat(name)
				assert.NoError(t, err, name)
			}
			if name != markName && mode.IsRegular() {
				got, err := root.ReadFile(name)
				require.NoError(t, err)
				assert.Equal(t, want[name], string(got), name)
				delete(want, name)
			}
			return nil
		}))
		assert.Empty(t, want)
		_, err = Files(context.Background(), store, desc, dir, Config{MaxFiles: 50, MaxBytes: 1 << 20, Verify: true})
		require.NoError(t, err)
	})
}

// plainFiles returns the content of the files and hard links of a tar, by path.
func plainFiles(t *testing.T, data []byte) map[string]string {
	var r io.Reader = bytes.NewReader(data)
	if z, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		r = z
	}
	all := map[string]string{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return all
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			require.NoError(t, err)
		}
		content, err := io.ReadAll(in)
		require.NoError(t, err)
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
			all[path.Clean(h.Name)] = string(content)
		case tar.TypeLink:
			all[path.Clean(h.Name)] = all[path.Clean(h.Linkname)]
		}
	}
}

// Any text is either refused as a name, or gives a name below the directory.
func FuzzName(f *testing.F) {
	for _, name := range []string{"a", "a/b", "./a", "a//b/", "../a", "a/..", "/a", `a\b`, "a\x00", "\xff", ".pullkit/a", "con", "a:b", strings.Repeat("a/", 101), "."} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		clean, err := cleanName(name)
		if err != nil {
			assert.ErrorIs(t, err, ErrBadName)
			return
		}
		assert.True(t, fs.ValidPath(clean), "%q", clean)
		assert.True(t, filepath.IsLocal(filepath.FromSlash(clean)), "%q", clean)
		again, err := cleanName(clean)
		assert.NoError(t, err)
		assert.Equal(t, clean, again)
		assert.NotContains(t, strings.Split(name, "/"), "..")
		assert.False(t, strings.HasPrefix(strings.ToLower(clean), markName+"/") || strings.EqualFold(clean, markName))
	})
}

// Any media type and annotations either give a layer a name that is allowed, or an error.
func FuzzPlace(f *testing.F) {
	f.Add(ocispec.MediaTypeImageLayer, "title", "", "", "")
	f.Add(modelTar, "", "a/b", "true", "")
	f.Add("application/vnd.ollama.image.tensor", "", "", "", "name")
	f.Add("application/vnd.docker.ai.gguf.v3", "", "", "false", "")
	f.Fuzz(func(t *testing.T, mediaType, title, filepath, unpack, name string) {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digestOf(nil), Annotations: map[string]string{}}
		for key, value := range map[string]string{annotationTitle: title, annotationPath: filepath, annotationUnpack: unpack} {
			if value != "" {
				desc.Annotations[key] = value
			}
		}
		all, err := places([]artifactLayer{{desc, name}, {desc, name}}, nil)
		if err != nil {
			assert.True(t, errors.Is(err, ErrNoName) || errors.Is(err, ErrBadName) || errors.Is(err, ErrBadTar), "%v", err)
			assert.NotContains(t, (&Error{Dir: "d", Layer: err.Layer, File: err.File, Err: err.Err}).Error(), "\n")
			return
		}
		for _, p := range all {
			if p.tar {
				assert.Empty(t, p.name)
				continue
			}
			clean, err := cleanName(p.name)
			assert.NoError(t, err)
			assert.Equal(t, p.name, clean)
			assert.NotEqual(t, ".", clean)
		}
	})
}
