package rootfs

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/pullertest"
)

// hostile returns the layers of images that try to write, link or remove files outside the root
// file system. outside is the path of a directory with a file of the name victim.
func hostile(t testing.TB, outside string) map[string][]testLayer {
	up := "../../../../../../../../../../../../.."
	victim := filepath.Join(outside, "victim")
	return map[string][]testLayer{
		"a name with ..":                    {layerOf(t, file(up+victim, "bad"), file("../../victim", "bad"))},
		"an absolute name":                  {layerOf(t, file(victim, "bad"))},
		"a file through an absolute link":   {layerOf(t, symlink("out", outside), file("out/victim", "bad"))},
		"the same in two layers":            {layerOf(t, symlink("out", outside)), layerOf(t, file("out/victim", "bad"))},
		"a file through a relative link":    {layerOf(t, symlink("out", up+outside), file("out/victim", "bad"))},
		"a file through two links":          {layerOf(t, folder("d"), symlink("d/up", ".."), symlink("out", "d/up/.."+up+outside), file("out/victim", "bad"))},
		"a link in the place of a file":     {layerOf(t, symlink("f", victim), file("f", "bad"))},
		"the same in two layers, a file":    {layerOf(t, symlink("f", victim)), layerOf(t, file("f", "bad"))},
		"a directory in the place of one":   {layerOf(t, symlink("d", outside), folder("d").mode(0o777), file("d/victim", "bad"))},
		"a hard link to a file outside":     {layerOf(t, hardlink("l", up+victim), file("l", "bad"))},
		"a hard link with an absolute path": {layerOf(t, hardlink("l", victim), file("l", "bad"))},
		"a hard link through a link":        {layerOf(t, symlink("out", outside), hardlink("l", "out/victim"), file("l", "bad"))},
		"a hard link to a link, rewritten":  {layerOf(t, symlink("s", victim), hardlink("l", "s"), file("l", "bad"))},
		"a whiteout through a link":         {layerOf(t, symlink("out", outside)), layerOf(t, file("out/.wh.victim", ""))},
		"a whiteout with ..":                {layerOf(t, file(up+outside+"/.wh.victim", ""), file("../../.wh.victim", ""))},
		"an opaque directory outside":       {layerOf(t, symlink("out", outside)), layerOf(t, file("out/.wh..wh..opq", ""))},
		"a whiteout of a link to outside":   {layerOf(t, symlink("out", outside)), layerOf(t, file(".wh.out", ""))},
		"a mode through a link":             {layerOf(t, symlink("f", victim).mode(0o777).owner(1234, 1234))},
		"links in a circle":                 {layerOf(t, symlink("a", "b"), symlink("b", "a"), file("a/x", "bad"))},
		"a device that is written to":       {layerOf(t, head(tar.TypeChar, "null", "").with(func(h *tar.Header) { h.Devmajor, h.Devminor = 1, 3 }), file("null", "bad"))},
		"a pipe that is written to":         {layerOf(t, head(tar.TypeFifo, "pipe", ""), file("pipe", "good"))},
		"a file where a directory was":      {layerOf(t, folder("d"), symlink("d/out", outside)), layerOf(t, file("d", "good"), folder("d"), file("d/out/victim", "good"))},
	}
}

// A hostile image does not change files outside its root file system. The call makes only the
// directory that it was asked for, or nothing.
func TestHostileLayersAreRefusedOrKeptInside(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	for name, layers := range hostile(t, outside) {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(outside, "victim"), []byte("unharmed"), 0o640))
			info, err := os.Lstat(filepath.Join(outside, "victim"))
			require.NoError(t, err)
			parent := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(parent, "victim"), []byte("unharmed"), 0o644))
			store := new(pullertest.MemStore)
			dir := filepath.Join(parent, "dir")
			_, err = Unpack(t.Context(), store, putImage(t, store, layers...), dir, Config{})
			want := []string{"victim", "dir"}
			if err != nil {
				var e *Error
				assert.True(t, errors.As(err, &e), "%v", err)
				assert.Contains(t, []string{digestOf(layers[0].blob).String(), digestOf(layers[len(layers)-1].blob).String()}, string(e.Layer))
				want = want[:1]
			}
			requireOnly(t, parent, want...)
			assert.Equal(t, map[string]string{"sub": "/", "victim": "unharmed"}, contents(t, outside))
			after, err := os.Lstat(filepath.Join(outside, "victim"))
			require.NoError(t, err)
			assert.Equal(t, info.Mode(), after.Mode())
			assert.Equal(t, info.ModTime(), after.ModTime())
			data, err := os.ReadFile(filepath.Join(parent, "victim"))
			require.NoError(t, err)
			assert.Equal(t, "unharmed", string(data))
		})
	}
	if runtime.GOOS == "windows" {
		t.Fatal("the package does not work on Windows")
	}
}

// Any bytes as a layer, whether or not they are a tar, do not change files outside the root file
// system.
func FuzzLayer(f *testing.F) {
	f.Add(pack(f, folder("d"), file("d/a", "1"), symlink("l", "d"), hardlink("h", "d/a"), file("l/b", "2"), file(".wh.d", "")))
	f.Add(pack(f, file("../x", "1"), symlink("s", "/"), file("s/etc/x", "1"), file("d/.wh..wh..opq", "")))
	f.Add(gzipped(pack(f, file("a", repeated("x", 1000)))))
	f.Add(zstded(pack(f, file("a", repeated("x", 1000)))))
	for _, layers := range hostile(f, "/outside") {
		for _, l := range layers {
			f.Add(l.tar)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return
		}
		parent := t.TempDir()
		root := filepath.Join(parent, "a", "root")
		require.NoError(t, os.MkdirAll(root, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(parent, "victim"), []byte("unharmed"), 0o644))
		a := &applier{root: root, cfg: Config{MaxFiles: 50, MaxBytes: 1 << 20, MaxRatio: 200}}
		u := &unpacker{cfg: a.cfg}
		applyTestLayers(t, u, a, layerOf(t, file("low/a", "1"), symlink("up", ".."), symlink("top", "/")), testLayer{"application/vnd.oci.image.layer.v1.tar", data, data})
		requireOnly(t, parent, "a", "victim")
		requireOnly(t, filepath.Join(parent, "a"), "root")
		got, err := os.ReadFile(filepath.Join(parent, "victim"))
		require.NoError(t, err)
		require.Equal(t, "unharmed", string(got))
	})
}
