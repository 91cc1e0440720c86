package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
)

func TestLayersAreAppliedInTheirOrder(t *testing.T) {
	cases := map[string]struct {
		layers []testLayer
		want   map[string]string
	}{
		"no layer": {nil, map[string]string{}},
		"a later layer replaces a file": {
			[]testLayer{layerOf(t, file("a", "1"), file("b", "2")), layerOf(t, file("a", "3"))},
			map[string]string{"a": "3", "b": "2"},
		},
		"a whiteout removes a file and a directory of lower layers": {
			[]testLayer{layerOf(t, file("a", "1"), folder("d"), file("d/e", "2"), file("f", "3")), layerOf(t, file(".wh.a", ""), file(".wh.d", ""))},
			map[string]string{"f": "3"},
		},
		"an opaque directory has only its own layer's files, wherever the marker is": {
			[]testLayer{layerOf(t, file("d/a", "1"), file("d/s/b", "2"), file("e", "3")), layerOf(t, file("d/c", "4"), file("d/.wh..wh..opq", ""), file("d/s/f", "5"))},
			map[string]string{"d": "/", "d/c": "4", "d/s": "/", "d/s/f": "5", "e": "3"},
		},
		"a hard link to a file of a lower layer": {
			[]testLayer{layerOf(t, file("a", "1")), layerOf(t, hardlink("b", "a"))},
			map[string]string{"a": "1", "b": "1"},
		},
		"a path goes through an absolute link of a lower layer": {
			[]testLayer{layerOf(t, folder("usr/lib"), symlink("lib", "/usr/lib")), layerOf(t, file("lib/a", "1"))},
			map[string]string{"usr": "/", "usr/lib": "/", "usr/lib/a": "1", "lib": "-> /usr/lib"},
		},
		"the type of a name changes": {
			[]testLayer{layerOf(t, file("a", "1"), file("b/c", "2"), symlink("l", "a")), layerOf(t, file("a/x", "3").with(func(h *tar.Header) { h.Name = "n/x" }), folder("l"), file("b", "4"))},
			map[string]string{"a": "1", "b": "4", "l": "/", "n": "/", "n/x": "3"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir, r := unpackImage(t, Config{}, c.layers...)
			assert.Equal(t, c.want, contents(t, dir))
			assert.Equal(t, len(c.layers), r.Layers)
		})
	}
}

func TestCompressedLayersAreApplied(t *testing.T) {
	data := pack(t, file("a", repeated("text ", 3<<20)))
	half := len(data) / 2
	members := append(gzipped(data[:half]), gzipped(data[half:])...)
	skippable := append([]byte{0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4}, zstded(data)...)
	for name, l := range map[string]testLayer{
		"none":                              {ocispec.MediaTypeImageLayer, data, data},
		"gzip":                              {ocispec.MediaTypeImageLayerGzip, gzipped(data), data},
		"gzip of two members":               {ocispec.MediaTypeImageLayerGzip, members, data},
		"zstd":                              {ocispec.MediaTypeImageLayerZstd, zstded(data), data},
		"zstd, skippable":                   {ocispec.MediaTypeImageLayerZstd, skippable, data},
		"Docker's":                          {"application/vnd.docker.image.rootfs.diff.tar.gzip", gzipped(data), data},
		"gzip without a media type of gzip": {ocispec.MediaTypeImageLayer, gzipped(data), data},
		"bytes after the end":               {ocispec.MediaTypeImageLayer, append(bytes.Clone(data), "more"...), append(bytes.Clone(data), "more"...)},
		"no zeros at the end":               {ocispec.MediaTypeImageLayer, data[:len(data)-1024], data[:len(data)-1024]},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := unpackImage(t, Config{MaxRatio: 5000}, l)
			assert.Equal(t, map[string]string{"a": repeated("text ", 3<<20)}, contents(t, dir))
		})
	}
}

// Many layers arrive in any order. Some of them are larger than what is kept in memory.
func TestLayersMayArriveInAnyOrder(t *testing.T) {
	var layers []testLayer
	want := map[string]string{}
	for i := range 12 {
		data := repeated(string(rune('a'+i)), (i%3)*3<<20+i)
		want["f"+string(rune('a'+i))], want["same"] = data, data
		layers = append(layers, layerOf(t, file("f"+string(rune('a'+i)), data), file("same", data)))
	}
	store := new(pullertest.MemStore)
	desc := putImage(t, store, layers...)
	for _, backwards := range []bool{false, true} {
		gates := map[digest.Digest]chan struct{}{}
		for _, l := range layers {
			gates[digestOf(l.blob)] = make(chan struct{})
		}
		waiting := make(chan struct{}, len(layers))
		dir := filepath.Join(t.TempDir(), "dir")
		u := &unpacker{store: store, cfg: Config{NoSync: true, MaxRatio: 5000}, dir: dir, ready: func(context.Context) error { return nil },
			wait: func(ctx context.Context, d ocispec.Descriptor) error {
				gate, ok := gates[d.Digest]
				if !ok {
					return nil // the config
				}
				waiting <- struct{}{}
				select {
				case <-gate:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}}
		go func() {
			<-waiting // the first layers wait
			for i := range layers {
				if backwards {
					i = len(layers) - 1 - i
				}
				close(gates[digestOf(layers[i].blob)])
			}
		}()
		_, err := u.run(t.Context(), desc)
		require.NoError(t, err)
		assert.Equal(t, want, contents(t, filepath.Join(dir, rootName)))
	}
}

func TestASecondCallMakesNothing(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putImage(t, store, layerOf(t, file("a", "1"), file("b", "22").mode(0o4755)))
	dir := filepath.Join(t.TempDir(), "x", "dir")
	first, err := Unpack(t.Context(), store, desc, dir, Config{})
	require.NoError(t, err)
	assert.Equal(t, Result{Manifest: desc.Digest, Config: first.Config, Layers: 1, Files: 2, Bytes: 3, SetID: first.SetID, Dropped: first.Dropped}, first)
	assert.Equal(t, ocispec.MediaTypeImageConfig, first.Config.MediaType)
	// A container may change its files.
	require.NoError(t, os.Remove(filepath.Join(dir, rootName, "a")))
	again, err := Unpack(t.Context(), store, desc, dir, Config{})
	require.NoError(t, err)
	first.Present = true
	assert.Equal(t, first, again)
	read, err := Read(dir)
	require.NoError(t, err)
	assert.Equal(t, first, read)
	_, err = Read(filepath.Dir(dir))
	assert.ErrorIs(t, err, ErrTaken)
	_, err = Read(filepath.Join(dir, "absent"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.Equal(t, map[string]string{"b": "22"}, contents(t, filepath.Join(dir, rootName)))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	info, err = os.Stat(filepath.Join(dir, rootName))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o755), info.Mode().Perm())
}

func TestADirectoryOfSomethingElseStays(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putImage(t, store, layerOf(t, file("a", "1")))
	other := putImage(t, store, layerOf(t, file("a", "2")))
	made := func(cfg Config) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			_, err := Unpack(t.Context(), store, desc, dir, cfg)
			require.NoError(t, err)
		}
	}
	mark := func(text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, rootName), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(dir, markName), []byte(text), 0o644))
		}
	}
	for name, c := range map[string]struct {
		before func(t *testing.T, dir string)
		desc   ocispec.Descriptor
		cfg    Config
		text   string
	}{
		"an empty directory": {func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(dir, 0o755)) }, desc, Config{}, "does not have the file"},
		"a file":             {func(t *testing.T, dir string) { require.NoError(t, os.WriteFile(dir, nil, 0o644)) }, desc, Config{}, "not a directory"},
		"a link":             {func(t *testing.T, dir string) { require.NoError(t, os.Symlink(t.TempDir(), dir)) }, desc, Config{}, "not a directory"},
		"another image":      {made(Config{}), other, Config{}, string(desc.Digest)},
		"other settings":     {made(Config{}), desc, Config{Devices: true}, "another Config.Devices"},
		"a mark of unpack":   {mark(`{"version":1,"manifest":"` + string(desc.Digest) + `"}`), desc, Config{}, "cannot be read"},
		"not a mark":         {mark(`x`), desc, Config{}, "cannot be read"},
		"another boot":       {mark(`{"rootfs":1,"key":"` + string(desc.Digest) + `","boot":"another"}`), desc, Config{}, "remove it"},
		"no root file system": {func(t *testing.T, dir string) {
			made(Config{})(t, dir)
			require.NoError(t, os.RemoveAll(filepath.Join(dir, rootName)))
		}, desc, Config{}, "does not have the directory rootfs"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "dir")
			c.before(t, dir)
			before := contents(t, parent)
			_, err := Unpack(t.Context(), store, c.desc, dir, c.cfg)
			assert.ErrorIs(t, err, ErrTaken)
			assert.ErrorContains(t, err, c.text)
			assert.Equal(t, before, contents(t, parent))
		})
	}
}

// The file .pullkit keeps only the media type, digest and size of the config's descriptor, so a
// large descriptor does not fill it.
func TestALargeDescriptorOfTheConfigIsNotKept(t *testing.T) {
	store := new(pullertest.MemStore)
	body, err := io.ReadAll(open(t, store, putImage(t, store, layerOf(t, file("a", "1")))))
	require.NoError(t, err)
	var m ocispec.Manifest
	require.NoError(t, json.Unmarshal(body, &m))
	want := m.Config
	m.Config.MediaType += "; p=" + strings.Repeat("p", maxMark)
	m.Config.Annotations = map[string]string{"a": strings.Repeat("a", maxMark)}
	m.Config.Data, err = io.ReadAll(open(t, store, want))
	require.NoError(t, err)
	desc := put(t, store, m.MediaType, encode(t, m))
	dir := filepath.Join(t.TempDir(), "dir")
	for _, present := range []bool{false, true} {
		r, err := Unpack(t.Context(), store, desc, dir, Config{})
		require.NoError(t, err)
		assert.Equal(t, present, r.Present)
		assert.Equal(t, want, r.Config)
	}
}

// open opens a blob.
func open(t testing.TB, store content.Store, desc ocispec.Descriptor) io.Reader {
	t.Helper()
	blob, err := store.Open(context.Background(), desc)
	require.NoError(t, err)
	t.Cleanup(func() { blob.Close() })
	return blob
}

// Some programs give a hard link the size of its file. MaxBytes does not count it.
func TestTheSizeOfAHardLinkIsNotCounted(t *testing.T) {
	const size = 1 << 20
	data := pack(t, file("a", repeated("0123456789abcdef", size)))
	data = data[:len(data)-1024] // without the end of the archive
	for _, name := range []string{"l", "m", "n"} {
		header := pack(t, hardlink(name, "a"))[:512]
		copy(header[124:], fmt.Sprintf("%011o", size))
		copy(header[148:], "        ") // as the checksum counts itself
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		copy(header[148:], fmt.Sprintf("%06o\x00", sum))
		data = append(data, header...)
	}
	data = append(data, make([]byte, 1024)...)
	dir, r := unpackImage(t, Config{MaxBytes: size, MaxRatio: 1}, testLayer{ocispec.MediaTypeImageLayer, data, data})
	assert.Equal(t, int64(size), r.Bytes)
	assert.Len(t, contents(t, dir)["n"], size)
}

// The library keeps the headers of directories until the layer ends. Their large records are
// freed before.
func TestLargeRecordsOfDirectoriesAreNotKept(t *testing.T) {
	const dirs, size = 100, 512 << 10
	a := &applier{root: t.TempDir(), privileged: true, cfg: Config{MaxFiles: 1000, MaxBytes: 1 << 40, MaxRatio: 1000}}
	s := &spool{spools: newSpools(nil)}
	l := &layer{desc: ocispec.Descriptor{Size: 1 << 30}, spool: s}
	applied := make(chan error)
	go func() { applied <- a.apply(t.Context(), l) }()
	send := func(data []byte) {
		for len(data) > 0 {
			c := newChunk(1)
			c.buf = c.buf[:copy(c.buf, data)]
			data = data[len(c.buf):]
			assert.NoError(t, s.put(c))
		}
	}
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	for i := range dirs {
		data := pack(t, folder(fmt.Sprintf("%d-%s", i, strings.Repeat("long", 40))).with(func(h *tar.Header) {
			h.PAXRecords = map[string]string{"EXAMPLE.comment": strings.Repeat("c", size), xattrPrefix + "example.unknown": strings.Repeat("x", 60<<10)}
		}))
		send(data[:len(data)-1024])
	}
	send(pack(t, file("last", repeated("x", 4*maxQueue*chunkSize)))) // when this is read, all directories are made
	assert.Less(t, heap()-before, dirs*size/4, "bytes of heap")
	s.end(nil)
	require.NoError(t, <-applied)
	entries, err := os.ReadDir(a.root)
	require.NoError(t, err)
	assert.Len(t, entries, dirs+1)
}

// A directory that was made without a sync is used until the next boot of the machine.
func TestADirectoryWithoutASyncIsUsedInTheSameBoot(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putImage(t, store, layerOf(t, file("a", "1")))
	dir := filepath.Join(t.TempDir(), "dir")
	for _, present := range []bool{false, true} {
		r, err := Unpack(t.Context(), store, desc, dir, Config{NoSync: true})
		require.NoError(t, err)
		assert.Equal(t, present, r.Present)
	}
}

func TestWhatIsNotAnImageIsRefused(t *testing.T) {
	store := new(pullertest.MemStore)
	layer := layerOf(t, file("a", "1"))
	change := func(change func(m *ocispec.Manifest, c *ocispec.Image)) ocispec.Descriptor {
		desc := put(t, store, layer.mediaType, layer.blob)
		c := ocispec.Image{Platform: ocispec.Platform{OS: "linux"}, RootFS: ocispec.RootFS{DiffIDs: []digest.Digest{digestOf(layer.tar)}}}
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{desc}}
		m.Config.MediaType = ocispec.MediaTypeImageConfig
		change(&m, &c)
		m.Config = put(t, store, m.Config.MediaType, encode(t, c))
		return put(t, store, m.MediaType, encode(t, m))
	}
	for name, c := range map[string]struct {
		desc ocispec.Descriptor
		want error
		text string
	}{
		"an artifact":               {change(func(m *ocispec.Manifest, _ *ocispec.Image) { m.Config.MediaType = "application/vnd.example" }), ErrNotImage, "package unpack"},
		"an encrypted layer":        {change(func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].MediaType += "+encrypted" }), ErrNotImage, "encrypted"},
		"too few diff IDs":          {change(func(_ *ocispec.Manifest, c *ocispec.Image) { c.RootFS.DiffIDs = nil }), ErrNotImage, "0 diff IDs"},
		"a bad diff ID":             {change(func(_ *ocispec.Manifest, c *ocispec.Image) { c.RootFS.DiffIDs[0] = "sha256:x" }), ErrNotImage, "config"},
		"another diff ID":           {change(func(_ *ocispec.Manifest, c *ocispec.Image) { c.RootFS.DiffIDs[0] = digestOf([]byte("x")) }), content.ErrDigestMismatch, "the config says"},
		"Windows":                   {change(func(_ *ocispec.Manifest, c *ocispec.Image) { c.OS = "windows" }), ErrNotImage, "Windows"},
		"a layer that is absent":    {change(func(m *ocispec.Manifest, _ *ocispec.Image) { m.Layers[0].Digest = digestOf([]byte("absent")) }), fs.ErrNotExist, string(digestOf([]byte("absent")))},
		"a manifest that is absent": {ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digestOf([]byte("none")), Size: 4}, fs.ErrNotExist, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			_, err := Unpack(t.Context(), store, c.desc, dir, Config{})
			assert.ErrorIs(t, err, c.want)
			assert.ErrorContains(t, err, c.text)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, dir, e.Dir)
			requireOnly(t, filepath.Dir(dir))
		})
	}
}

// An index is accepted if exactly one of its manifests is stored.
func TestAnIndexGivesItsStoredManifest(t *testing.T) {
	store := new(pullertest.MemStore)
	one := putImage(t, store, layerOf(t, file("a", "1")))
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digestOf([]byte("absent")), Size: 6}
	idx := func(of ...ocispec.Descriptor) ocispec.Descriptor {
		return put(t, store, ocispec.MediaTypeImageIndex, encode(t, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: of}))
	}
	dir := filepath.Join(t.TempDir(), "dir")
	r, err := Unpack(t.Context(), store, idx(absent, one), dir, Config{})
	require.NoError(t, err)
	assert.Equal(t, one.Digest, r.Manifest)
	two := putImage(t, store, layerOf(t, file("a", "2")))
	_, err = Unpack(t.Context(), store, idx(one, two), dir, Config{})
	assert.ErrorIs(t, err, content.ErrNoPlatform)
}

func TestLayersAboveALimitAreRefused(t *testing.T) {
	l := layerOf(t, file("a", repeated("a", 3<<20)), file("b", "1"))
	for name, c := range map[string]struct {
		cfg  Config
		file string
		text string
	}{
		"files":    {Config{MaxFiles: 1, MaxRatio: 10000}, "b", "MaxFiles"},
		"bytes":    {Config{MaxBytes: 3 << 20, MaxRatio: 10000}, "b", "MaxBytes"},
		"ratio":    {Config{}, "", "MaxRatio"},
		"negative": {Config{MaxFiles: -1}, "", "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			store := new(pullertest.MemStore)
			dir := filepath.Join(t.TempDir(), "dir")
			_, err := Unpack(t.Context(), store, putImage(t, store, l), dir, c.cfg)
			assert.ErrorContains(t, err, c.text)
			if c.text != "negative" {
				assert.ErrorIs(t, err, ErrTooLarge)
			}
			var e *Error
			require.ErrorAs(t, err, &e)
			if c.file != "" {
				assert.Equal(t, c.file, e.File)
			}
			requireOnly(t, filepath.Dir(dir))
		})
	}
}

// Damage of a blob in the Store is not reported as a fault of the image.
func TestADamagedBlobIsNamed(t *testing.T) {
	good := layerOf(t, file("a", repeated("abc", 100000)))
	for name, damage := range map[string]func([]byte) []byte{
		"cut off": func(b []byte) []byte { return b[:len(b)/2] },
		"changed": func(b []byte) []byte { b = bytes.Clone(b); b[len(b)/2] ^= 1; return b },
		"emptied": func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			store := &damagedStore{blob: digestOf(good.blob), data: damage(good.blob)}
			dir := filepath.Join(t.TempDir(), "dir")
			_, err := Unpack(t.Context(), store, putImage(t, store, good), dir, Config{})
			assert.ErrorIs(t, err, content.ErrDigestMismatch)
			assert.ErrorContains(t, err, "is damaged in the store")
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, digestOf(good.blob), e.Layer)
			requireOnly(t, filepath.Dir(dir))
		})
	}
}

// A damagedStore has other bytes for a blob.
type damagedStore struct {
	pullertest.MemStore
	blob digest.Digest
	data []byte
}

func (s *damagedStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.Digest == s.blob {
		return io.NopCloser(bytes.NewReader(s.data)), nil
	}
	return s.MemStore.Open(ctx, desc)
}

// A layer that is damaged in the image itself is refused. The error names the layer.
func TestABadLayerIsNamed(t *testing.T) {
	plain := pack(t, file("first", repeated("abc", 10000)), file("second", "1"))
	packed := gzipped(plain)
	for name, l := range map[string]testLayer{
		"not a tar":            {ocispec.MediaTypeImageLayer, []byte(repeated("not a tar ", 2000)), []byte(repeated("not a tar ", 2000))},
		"a tar that is cut":    {ocispec.MediaTypeImageLayer, plain[:5000], plain[:5000]},
		"gzip that is cut":     {ocispec.MediaTypeImageLayerGzip, packed[:len(packed)-9], plain},
		"bytes after gzip":     {ocispec.MediaTypeImageLayerGzip, append(bytes.Clone(packed), "garbage"...), plain},
		"zstd that is damaged": {ocispec.MediaTypeImageLayerZstd, append(zstded(plain)[:50], "garbage garbage"...), plain},
		"an unknown type":      layerOf(t, head('Y', "odd", "")),
	} {
		t.Run(name, func(t *testing.T) {
			store := new(pullertest.MemStore)
			dir := filepath.Join(t.TempDir(), "dir")
			_, err := Unpack(t.Context(), store, putImage(t, store, layerOf(t, file("x", "1")), l), dir, Config{})
			assert.ErrorIs(t, err, ErrBadLayer)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, digestOf(l.blob), e.Layer)
			requireOnly(t, filepath.Dir(dir))
		})
	}
}

// Errors of the system are not reported as faults of the layer. They quote and cut names of the
// image.
func TestNamesAreQuotedInErrors(t *testing.T) {
	long := strings.Repeat("n", 300)
	store := new(pullertest.MemStore)
	_, err := Unpack(t.Context(), store, putImage(t, store, layerOf(t, file("\x1b[31m\n", "1"), file(long, "1"))), filepath.Join(t.TempDir(), "dir"), Config{})
	assert.ErrorIs(t, err, syscall.ENAMETOOLONG)
	assert.NotErrorIs(t, err, ErrBadLayer)
	_, err = Unpack(t.Context(), store, putImage(t, store, layerOf(t, file("\x1b[31m\n/f", "1"), hardlink("\x1b[31m\n/l", "absent\x1b"))), filepath.Join(t.TempDir(), "dir"), Config{})
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotContains(t, err.Error(), "\x1b")
	assert.NotContains(t, err.Error(), "\n")
	assert.Contains(t, err.Error(), `\x1b`)
	_, err = Unpack(t.Context(), store, putImage(t, store, layerOf(t, file(strings.Repeat("d/", 3000)+"f", "1"))), filepath.Join(t.TempDir(), "dir"), Config{})
	assert.ErrorIs(t, err, syscall.ENAMETOOLONG)
	assert.Less(t, len(err.Error()), 2000)
	assert.True(t, strings.HasSuffix(err.Error(), syscall.ENAMETOOLONG.Error()), "the cause is cut off")
}

// The context ends during the wait for a layer, or before the call.
func TestTheCauseOfTheContextIsReturned(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putImage(t, store, layerOf(t, file("a", "1")))
	over := errors.New("over")
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := filepath.Join(t.TempDir(), "dir")
	u := &unpacker{store: store, dir: dir, ready: func(context.Context) error { return nil }, wait: func(ctx context.Context, d ocispec.Descriptor) error {
		if d.MediaType == ocispec.MediaTypeImageConfig {
			return nil
		}
		cancel(over)
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	_, err := u.run(ctx, desc)
	assert.Equal(t, over, err)
	requireOnly(t, filepath.Dir(dir))
	_, err = Unpack(ctx, store, desc, dir, Config{})
	assert.Equal(t, over, err)
	_, err = Unpack(t.Context(), store, desc, dir, Config{})
	assert.NoError(t, err)
}

// The next call removes the files that a killed call has left, and does not go on with them.
func TestFilesOfAKilledCallAreRemoved(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putImage(t, store, layerOf(t, file("a", "1"), file("b", "2")))
	dir := filepath.Join(t.TempDir(), "dir")
	for _, op := range []string{"mkdir", "write", "sync", "rename"} {
		left := filepath.Join(filepath.Dir(dir), ".dir.pullkit", "files", rootName)
		require.NoError(t, os.MkdirAll(left, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(left, "old"), nil, 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(dir), ".dir.pullkit", "key"), encode(t, key{Version: 1, Manifest: desc.Digest}), 0o644))
		u := &unpacker{store: store, dir: dir, wait: func(context.Context, ocispec.Descriptor) error { return nil }, ready: func(context.Context) error { return nil },
			before: func(got, _ string) error {
				if got == op {
					return syscall.EIO
				}
				return nil
			}}
		_, err := u.run(t.Context(), desc)
		assert.ErrorIs(t, err, syscall.EIO, op)
		assert.NoDirExists(t, dir)
	}
	_, err := Unpack(t.Context(), store, desc, dir, Config{})
	require.NoError(t, err)
	requireOnly(t, filepath.Dir(dir), "dir")
	assert.Equal(t, map[string]string{"a": "1", "b": "2"}, contents(t, filepath.Join(dir, rootName)))
}

// Several calls make the same directory at the same time. One call makes it, and the others use
// it.
func TestConcurrentCallsMakeOneDirectoryOnce(t *testing.T) {
	store := new(pullertest.MemStore)
	desc := putImage(t, store, layerOf(t, file("a", repeated("x", 1<<20))))
	dir := filepath.Join(t.TempDir(), "dir")
	results := make(chan Result)
	for range 4 {
		go func() {
			r, err := Unpack(t.Context(), store, desc, dir, Config{MaxRatio: 5000})
			assert.NoError(t, err)
			results <- r
		}()
	}
	made := 0
	for range 4 {
		if r := <-results; !r.Present {
			made++
		}
	}
	assert.Equal(t, 1, made)
}

// A panic of the Store reaches the caller.
func TestAPanicOfTheStoreReachesTheCaller(t *testing.T) {
	store := &panickingStore{}
	desc := putImage(t, store, layerOf(t, file("a", "1")))
	u := &unpacker{store: store, wait: func(context.Context, ocispec.Descriptor) error { return nil }}
	var r Result
	layers, err := u.layers(t.Context(), desc, &r)
	require.NoError(t, err)
	config, layer := r.Config, layers[0].desc
	dir := filepath.Join(t.TempDir(), "dir")
	for name, call := range map[string]func(){
		"Unpack": func() { _, _ = Unpack(t.Context(), store, desc, dir, Config{}) },
		"Pull": func() {
			_, _, _ = Pull(t.Context(), store, dir, Config{}, func(ctx context.Context, events func(puller.Event)) (puller.Image, error) {
				events(puller.Event{Progress: &puller.Progress{Manifest: &desc, State: puller.BlobPresent, Blob: config}})
				events(puller.Event{Progress: &puller.Progress{State: puller.BlobStored, Blob: layer}})
				<-ctx.Done()
				return puller.Image{}, ctx.Err()
			})
		},
	} {
		func() {
			defer func() {
				panicked, ok := recover().(*panics.Error)
				require.True(t, ok, name)
				assert.Equal(t, "boom", panicked.Value, name)
			}()
			call()
		}()
		assert.NoDirExists(t, dir)
	}
}

// A Store that panics while a blob is read does not leave a goroutine. If it did, synctest.Test
// would fail.
func TestAPanicWhileABlobIsReadLeavesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		assert.PanicsWithValue(t, "boom", func() {
			_ = copyChunks(panickingReader{}, 1, newHasher(sha256.New()), nil)
		})
	})
}

type panickingReader struct{}

func (panickingReader) Read([]byte) (int, error) { panic("boom") }

type panickingStore struct{ pullertest.MemStore }

func (s *panickingStore) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.MediaType == ocispec.MediaTypeImageLayerGzip {
		panic("boom")
	}
	return s.MemStore.Open(ctx, desc)
}
